package gateway

// Reasons are the reason ids of all refusals, in the order of the table.
func Reasons() []string {
	var ids []string
	for _, a := range answers {
		if a.reason != "" {
			ids = append(ids, a.reason)
		}
	}
	return ids
}
