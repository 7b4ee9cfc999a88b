package mtls.site_test

import data.mtls.site

test_no_checks_compose_to_nothing if {
	site.pass == true
	count(site.failing) == 0
	site.reasons == {}
	site.headers == {}
}
