package admin

// contentPolicy lets a browser do nothing with what it gets but show it.
const contentPolicy = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
