// Package directory is what Cloud Controller says about names: what guids the
// sources by name stand for, again and again, and what apps, spaces and orgs are
// called where people read guids.
//
// It trusts Cloud Controller for which app bears which name, and checks that an
// answer is about what it asked for: a name is looked up within the org of
// whoever wrote it and nowhere else. Nothing waits for it: no request, no start.
// Without Cloud Controller, or where its client may not see an org, all stays as
// it was.
package directory

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/mtls-authz/mtls-authz/directory/census"
	"github.com/mtls-authz/mtls-authz/directory/controller"
	"github.com/mtls-authz/mtls-authz/grants/names"
	"github.com/mtls-authz/mtls-authz/store/resolution"
)

// Lister asks Cloud Controller; [controller.Session] is one.
type Lister interface {
	census.Lister
	// SeesAll reports whether it shows every org.
	SeesAll() bool
}

// Config configures [New]. Every field without a default is required.
type Config struct {
	Lister Lister
	// Resolutions keep what was found, for all gateways.
	Resolutions *resolution.Resolutions
	// References are the names to look up; another set if they have changed.
	References func() *names.Set
	// Grace is for how long a former holder of a name stands for it, while it
	// exists. 0: not at all.
	Grace time.Duration
	// Interval is how often names are looked up again. Default: 30 s.
	Interval time.Duration
	Log      *slog.Logger
	// Metrics gets the collectors; nil: nobody does.
	Metrics prometheus.Registerer
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// ErrHidden: some names are of orgs that the client of UAA cannot see, or that were
// deleted. What they stood for stays.
var ErrHidden = errors.New("orgs that are not there for CF_CLIENT_ID: deleted, or the client needs the authority cloud_controller.global_auditor or cloud_controller.admin_read_only")

// tick is how often the directory looks for something to do, newsInterval how
// often new names are looked up.
const (
	tick         = 250 * time.Millisecond
	newsInterval = time.Second
)

// Directory is safe for concurrent use.
type Directory struct {
	cfg Config

	labels *lru.Cache[entity, label]
	mu     sync.Mutex
	asked  map[entity]bool

	lookUps *prometheus.CounterVec

	rounds             // of the goroutine that looks names up
	fetching condition // of the one that fetches labels
}

// rounds is how looking up goes.
type rounds struct {
	condition
	// took is how long it took to look every name up.
	took time.Duration
	// wanted and page are what was last compared, news are the names of the one that
	// are not in the other, tried those of them that were looked up and not seen.
	wanted *names.Set
	page   *names.Page
	news   []names.Reference
	tried  map[names.Reference]bool
	// unused are names that this gateway knew no use of when it last looked all up.
	unused map[names.Reference]bool
}

// New returns a directory; see [Directory.Run].
func New(cfg Config) *Directory {
	if cfg.Interval == 0 {
		cfg.Interval = 30 * time.Second
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	labels, _ := lru.New[entity, label](maxLabels) // its only error is a size below one
	return &Directory{
		cfg: cfg, lookUps: newMetrics(cfg), labels: labels, asked: map[entity]bool{},
		rounds:   rounds{condition: condition{log: cfg.Log, what: "names"}, tried: map[names.Reference]bool{}},
		fetching: condition{log: cfg.Log, what: "the names that people read"},
	}
}

// Run looks names up until its context ends.
func (d *Directory) Run(ctx context.Context) {
	var running sync.WaitGroup
	running.Go(func() { every(ctx, func() { d.resolveSome(ctx) }) })
	running.Go(func() { every(ctx, func() { d.fetchLabels(ctx) }) })
	running.Wait()
}

func every(ctx context.Context, do func()) {
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			do()
		}
	}
}

// A condition is how one job goes, logged when that changes.
type condition struct {
	log  *slog.Logger
	what string
	told string
}

// tell logs how it goes.
func (c *condition) tell(ctx context.Context, err error) {
	if ctx.Err() != nil {
		return
	}
	kind := kindOf(err)
	if kind == c.told {
		return
	}
	c.told = kind
	if err == nil {
		c.log.Info(c.what + " are looked up again")
		return
	}
	c.log.Warn("some "+c.what+" cannot be looked up; what is known stays", slog.String("error", err.Error()))
}

// kindOf tells errors apart that are not the same to whoever is to mend them.
func kindOf(err error) (kind string) {
	for _, one := range []error{ErrHidden, controller.ErrUnauthorized, controller.ErrForbidden, controller.ErrRefused, controller.ErrUnavailable} {
		if errors.Is(err, one) {
			kind += one.Error() + ";"
		}
	}
	if err != nil && kind == "" {
		kind = "another"
	}
	return kind
}

// share is the part of the time that looking every name up may take: where it
// takes long, it is done less often.
const share = 4

// resolveSome looks up what it is this gateway's turn for. Without the store,
// there are no turns.
func (d *Directory) resolveSome(ctx context.Context) {
	wanted, page := d.cfg.References(), d.cfg.Resolutions.Book().Page()
	if wanted.Len() == 0 && page.Len() == 0 {
		return
	}
	mine, err := d.cfg.Resolutions.TakeTurn(ctx, resolution.Round, max(d.cfg.Interval, share*d.took))
	if err != nil {
		return
	}
	if mine {
		started := time.Now()
		err := d.Resolve(ctx, wanted)
		d.count(err)
		d.tell(ctx, err)
		d.took = time.Since(started)
		return
	}
	d.compare(wanted, page)
	if len(d.news) == 0 {
		return
	}
	if mine, err = d.cfg.Resolutions.TakeTurn(ctx, resolution.News, newsInterval); err != nil || !mine {
		return
	}
	err = d.ResolveNew(ctx, d.news)
	if err == nil || errors.Is(err, ErrHidden) || errors.Is(err, controller.ErrRefused) {
		for _, r := range d.news {
			d.tried[r] = true
			delete(d.unused, r)
		}
		d.wanted = nil // compare again
	}
	d.tell(ctx, err)
}

// compare finds the news, if anything has changed.
func (d *Directory) compare(wanted *names.Set, page *names.Page) {
	if wanted == d.wanted && page == d.page {
		return
	}
	d.wanted, d.page, d.news = wanted, page, nil
	maps.DeleteFunc(d.tried, func(r names.Reference, _ bool) bool { return !wanted.Has(r) })
	for r := range wanted.All() {
		// What nobody used a while ago may stand for something else by now.
		if _, known := page.Look(r); (!known || d.unused[r]) && !d.tried[r] {
			d.news = append(d.news, r)
		}
	}
}

// Resolve looks every name up and keeps what it finds; what else is kept is
// forgotten the second time: another gateway may know better. Names of which
// nothing can be told stay as they are, and the error says why.
func (d *Directory) Resolve(ctx context.Context, wanted *names.Set) error {
	unused := map[names.Reference]bool{}
	err := d.resolve(ctx, slices.Collect(wanted.All()), func(r names.Reference) bool {
		if !wanted.Has(r) {
			unused[r] = true
		}
		return unused[r] && d.unused[r]
	})
	d.unused = unused
	return err
}

// ResolveNew is [Directory.Resolve] for some names, and leaves the others as they
// are.
func (d *Directory) ResolveNew(ctx context.Context, wanted []names.Reference) error {
	return d.resolve(ctx, wanted, func(names.Reference) bool { return false })
}

func (d *Directory) resolve(ctx context.Context, wanted []names.Reference, unused func(names.Reference) bool) error {
	saving, err := d.cfg.Resolutions.Begin(ctx)
	if err != nil {
		return err
	}
	known := saving.Known()
	found, problem := d.find(ctx, wanted)
	there, more := d.formers(ctx, known, found)
	now := d.cfg.Now().UTC().Truncate(time.Millisecond) // as the store keeps times
	changed := map[names.Reference]names.Resolution{}
	for reference, present := range found {
		before, looked := known.Look(reference)
		after := d.settle(reference, before, present, there, now)
		if !looked || !same(before, after) {
			changed[reference] = after
		}
	}
	var forget []names.Reference
	for reference := range known.All() {
		if unused(reference) {
			forget = append(forget, reference)
		}
	}
	if err := saving.Save(ctx, changed, forget); err != nil {
		return err
	}
	for reference, after := range changed {
		before, _ := known.Look(reference)
		d.log(reference, before, after)
	}
	return errors.Join(problem, more)
}

// log tells what a name stands for from now on.
func (d *Directory) log(r names.Reference, before, after names.Resolution) {
	attrs := []any{slog.String("org", r.Org.String()), slog.String("space", r.Space.String()), slog.String("name", r.Name.String())}
	var ids []string
	for _, h := range after.Holders[:min(len(after.Holders), 20)] {
		ids = append(ids, h.ID.String())
	}
	attrs = append(attrs, slog.Any("stands_for", ids), slog.Int("total", len(after.Holders)))
	switch {
	case !after.Missing.IsZero() && before.Missing.IsZero():
		d.cfg.Log.Warn("nothing bears the name", attrs...)
	case after.Trimmed && !before.Trimmed:
		d.cfg.Log.Warn("too many apps bear the labels; some are left out", attrs...)
	default:
		d.cfg.Log.Info("a name stands for", attrs...)
	}
}
