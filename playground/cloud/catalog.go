package cloud

import (
	"context"
	"fmt"
	"net/http"

	"github.com/mtls-authz/mtls-authz/playground/cloud/shape"
)

const brokerGUID = "b0b1b2b3-0000-4000-8000-000000000001"

// offering is the broker's one.
type offering struct {
	ID          string `json:"id"`
	Name        string `json:"name"`
	Description string `json:"description"`
	Plans       []plan `json:"plans"`
}

type plan struct {
	ID          string `json:"id"`
	Name        string `json:"name"`
	Description string `json:"description"`
}

// CreateBroker is cf create-service-broker and enable-service-access: it reads the
// catalog.
func (c *Cloud) CreateBroker(ctx context.Context) error {
	reply, err := c.cfg.Broker("").Catalog(ctx)
	if err := succeeded("catalog", reply, err); err != nil {
		return err
	}
	var catalog struct {
		Services []offering `json:"services"`
	}
	if err := reply.JSON(&catalog); err != nil || len(catalog.Services) != 1 {
		return fmt.Errorf("catalog: expected one offering, found %d: %w", len(catalog.Services), err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.offering = &catalog.Services[0]
	return nil
}

func (c *Cloud) brokers(r *http.Request) []shape.Item {
	body := shape.Resource(r, "service_brokers", brokerGUID, shape.Object{}, shape.Object{"name": "mtls-authz", "url": "https://mtls-authz." + c.cfg.Domain})
	return []shape.Item{{Body: body, Is: map[string]string{"guids": brokerGUID, "names": "mtls-authz"}}}
}

func (c *Cloud) listBrokers(w http.ResponseWriter, r *http.Request) {
	shape.List(w, r, c.brokers(r), nil)
}

// shownOfferings are the offerings; c.mu is held.
func (c *Cloud) shownOfferings(r *http.Request) []shape.Item {
	if c.offering == nil {
		return nil
	}
	body := shape.Resource(r, "service_offerings", c.offering.ID, shape.Object{"service_broker": shape.To(brokerGUID)}, shape.Object{
		"name":        c.offering.Name,
		"description": c.offering.Description, "available": true, "tags": []string{}, "requires": []string{"route_forwarding"}, "shareable": false,
		"broker_catalog": shape.Object{"id": c.offering.ID, "features": shape.Object{"plan_updateable": true, "bindable": true, "instances_retrievable": true, "bindings_retrievable": true}},
	})
	return []shape.Item{{Body: body, Is: map[string]string{
		"guids": c.offering.ID, "names": c.offering.Name, "service_broker_guids": brokerGUID, "service_broker_names": "mtls-authz",
	}}}
}

func (c *Cloud) listOfferings(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	shape.List(w, r, c.shownOfferings(r), shape.Object{"service_brokers": shape.Bodies(c.brokers(r))})
}

func (c *Cloud) getOffering(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	shape.One(w, r, c.shownOfferings(r), nil)
}

// shownPlans are the plans; c.mu is held.
func (c *Cloud) shownPlans(r *http.Request) []shape.Item {
	var all []shape.Item
	if c.offering == nil {
		return nil
	}
	for _, one := range c.offering.Plans {
		body := shape.Resource(r, "service_plans", one.ID, shape.Object{"service_offering": shape.To(c.offering.ID)}, shape.Object{
			"name":        one.Name,
			"description": one.Description, "available": true, "free": true, "visibility_type": "public", "costs": []shape.Object{}, "broker_catalog": shape.Object{"id": one.ID, "features": shape.Object{"plan_updateable": true, "bindable": true}},
		})
		all = append(all, shape.Item{Body: body, Is: map[string]string{
			"guids": one.ID, "names": one.Name, "service_offering_guids": c.offering.ID, "service_offering_names": c.offering.Name,
			"service_broker_guids": brokerGUID, "service_broker_names": "mtls-authz",
		}})
	}
	return all
}

func (c *Cloud) listPlans(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	shape.List(w, r, c.shownPlans(r), shape.Object{"service_offerings": shape.Bodies(c.shownOfferings(r)), "service_brokers": shape.Bodies(c.brokers(r))})
}

func (c *Cloud) getPlan(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	shape.One(w, r, c.shownPlans(r), nil)
}
