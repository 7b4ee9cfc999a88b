package mtls.site_test

import data.mtls.site

test_no_checks_compose_to_nothing if {
	count(site.failing) == 0
	count(site.reasons) == 0
	count(site.headers) == 0
}
