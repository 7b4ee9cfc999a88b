# METADATA
# title: Composition of the operator's checks
# description: |
#   What the operator's bundle adds to the decision. This is the composition of
#   no checks; where a bundle is configured, the gateway writes this package
#   anew, with one line for each package below data.site.check.
# schemas:
#   - input: schema.input
package mtls.site

# METADATA
# title: Every check allows the request
# description: A check that is undefined or not exactly true does not.
pass := true

# METADATA
# title: The checks that do not allow the request, by name
failing := set()

# METADATA
# title: The reasons that failing checks give, by name
reasons := {}

# METADATA
# title: The headers for the app that checks ask for
# description: |
#   Two checks that ask for different values of one header conflict, which is an
#   error and therefore a denial.
headers := {}
