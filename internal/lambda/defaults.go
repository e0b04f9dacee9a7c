package lambda

import (
	"os"
	"strings"
)

// SetDefaults sets the variables of iamproxy whose defaults differ in Lambda, unless they are set.
// An empty variable is not set.
func SetDefaults() {
	for name, value := range defaults(os.Getenv) {
		os.Setenv(name, value)
	}
}

// defaults returns the variables to set. An execution environment serves one invocation at a
// time, so one idle connection is enough. Most functions have timeouts of seconds. Lambda kills the
// process two seconds after the SHUTDOWN event.
func defaults(getenv func(name string) string) map[string]string {
	variables := map[string]string{
		"IAMPROXY_ADMIN":           "off",
		"IAMPROXY_POOL":            "1",
		"IAMPROXY_CONNECT_TIMEOUT": "10s",
		"IAMPROXY_DRAIN_MAX":       "1s",
		"IAMPROXY_LOG_FORMAT":      logFormat(getenv("AWS_LAMBDA_LOG_FORMAT")),
		"IAMPROXY_LOG_LEVEL":       logLevel(getenv("AWS_LAMBDA_LOG_LEVEL")),
	}
	for name := range variables {
		if getenv(name) != "" {
			delete(variables, name)
		}
	}
	return variables
}

// logFormat returns the value of --log-format for a function's log format, which is Text or JSON.
// https://docs.aws.amazon.com/lambda/latest/dg/monitoring-cloudwatchlogs-logformat.html
func logFormat(function string) string {
	if strings.EqualFold(function, "Text") {
		return "console"
	}
	return "json"
}

// logLevel returns the value of --log-level for a function's level of application logs. A function
// with the format Text has no level. Then it is warn, since a session has lines of level info, and
// CloudWatch Logs charges for them.
// https://docs.aws.amazon.com/lambda/latest/dg/monitoring-cloudwatchlogs-log-level.html
func logLevel(function string) string {
	switch strings.ToUpper(function) {
	case "TRACE", "DEBUG":
		return "debug"
	case "INFO":
		return "info"
	case "ERROR", "FATAL":
		return "error"
	}
	return "warn"
}
