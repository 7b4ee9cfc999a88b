# METADATA
# title: Composition of the operator's checks
# description: |
#   What the operator's bundle adds to the decision. This is the composition of
#   no checks; where a bundle is configured, the gateway writes this package
#   anew, with one line for each package below data.site.check.
package mtls.site

# The checks that do not allow the request, by name. A check that is undefined
# or not exactly true has failed.
failing := set()

# The reasons that failing checks give, by name.
reasons := {}

# The headers for the app that checks ask for, by name.
headers := {}
