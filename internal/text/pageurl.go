package text

// manual is the address of the pages of the documentation.
const manual = "https://github.com/iamproxy/iamproxy/blob/main/docs/"

// PageURL returns the address of a page, such as migrate.md.
func PageURL(page string) string { return manual + page }

// ReasonURL returns the address of the documentation of a reason, or "" for the empty reason.
func ReasonURL(reason string) string {
	if reason == "" {
		return ""
	}
	return PageURL("refused.md#" + reason)
}
