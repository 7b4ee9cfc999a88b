package directory

import "github.com/prometheus/client_golang/prometheus"

// newMetrics returns the counter of look-ups.
func newMetrics(cfg Config) *prometheus.CounterVec {
	lookUps := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "mtls_authz_name_lookups_total", Help: "How often this instance looked every name up: complete, or partial where some could not be told.",
	}, []string{"result"})
	missing := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "mtls_authz_names_missing", Help: "Names of sources that nothing bears; all instances tell the same.",
	}, func() float64 {
		count := 0
		for _, found := range cfg.Resolutions.Book().Page().All() {
			if !found.Missing.IsZero() {
				count++
			}
		}
		return float64(count)
	})
	if cfg.Metrics != nil {
		cfg.Metrics.MustRegister(lookUps, missing)
	}
	for _, result := range []string{"complete", "partial"} {
		lookUps.WithLabelValues(result)
	}
	return lookUps
}

// count counts a look-up of all names that ended so.
func (d *Directory) count(err error) {
	result := "complete"
	if err != nil {
		result = "partial"
	}
	d.lookUps.WithLabelValues(result).Inc()
}
