{{- define "iamproxy.selector" -}}
app.kubernetes.io/name: iamproxy
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "iamproxy.labels" -}}
{{ include "iamproxy.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- define "iamproxy.serviceAccount" -}}
{{- if not (or .Values.serviceAccount.create .Values.serviceAccount.name) }}
{{- fail "serviceAccount.name is required if serviceAccount.create is false: name an existing service account, which has the role" }}
{{- end }}
{{- .Values.serviceAccount.name | default .Release.Name }}
{{- end }}

{{- define "iamproxy.secret" -}}
{{ .Values.tls.secretName | default (printf "%s-tls" .Release.Name) }}
{{- end }}

{{/* The logins per second of one pod: those of all, divided by the pods of a roll-out. */}}
{{- define "iamproxy.connectRate" -}}
{{- $replicas := int .Values.replicas }}
{{- with .Values.autoscaling }}
{{- if .enabled }}
{{- if lt (int .maxReplicas) (int .minReplicas) }}
{{- fail (printf "autoscaling.maxReplicas is %v, less than autoscaling.minReplicas, which is %v" .maxReplicas .minReplicas) }}
{{- end }}
{{- $replicas = int .maxReplicas }}
{{- end }}
{{- end }}
{{- $rate := div (int .Values.loginsPerSecond) (add1 $replicas) }}
{{- if lt $rate 1 }}
{{- fail (printf "loginsPerSecond is %v, too few for %v replicas and the one that a roll-out adds: each needs at least one" .Values.loginsPerSecond $replicas) }}
{{- end }}
{{- $rate }}
{{- end }}

{{- define "iamproxy.image" -}}
{{ .Values.image | default (print "ghcr.io/iamproxy/iamproxy:" .Chart.AppVersion) }}
{{- end }}

{{/* 32 MiB plus 192 KiB for each session, rounded up to a multiple of 32 MiB. At least the request by default. */}}
{{- define "iamproxy.memoryLimit" -}}
{{- $sessions := div (add (mul .Values.maxSessions 192) 1023) 1024 }}
{{- max 128 (mul 32 (div (add $sessions 63) 32)) }}Mi
{{- end }}
