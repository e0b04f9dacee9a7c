package text

// manual is the page of the documentation that has a section for each reason.
const manual = "https://github.com/iamproxy/iamproxy/blob/main/docs/refused.md#"

// ReasonURL returns the address of the documentation of a reason, or "" for the empty reason.
func ReasonURL(reason string) string {
	if reason == "" {
		return ""
	}
	return manual + reason
}
