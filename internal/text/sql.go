package text

import "strings"

// QuoteIdentifier returns name as a quoted identifier of SQL.
func QuoteIdentifier(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }
