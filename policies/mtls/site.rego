# METADATA
# title: Composition of the operator's checks
# description: |
#   What the operator's bundle adds to the decision. This is the composition of
#   no checks; where a bundle is configured, the gateway writes this package
#   anew, with one line for each package below data.site.check.
package mtls.site

# True if every check allows the request. A check that is undefined or not
# exactly true does not.
pass := true

# The checks that do not allow the request, by name.
failing := set()

# The reasons that failing checks give, by name.
reasons := {}

# The headers for the app that checks ask for. Two checks that ask for
# different values of one header conflict, which is an error and therefore a
# denial.
headers := {}
