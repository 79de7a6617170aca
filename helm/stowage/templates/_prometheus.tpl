{{/* The file of Prometheus servers and of PromQL rules, see stowage.run.prometheus_settings. */}}

{{- define "stowage.prometheusConfiguration" -}}
endpoints:
{{- range .Values.prometheus.endpoints }}
{{- $name := .name | default "default" }}
{{- $endpoint := omit . "bearerToken" "ca" }}
{{- if .bearerToken }}
{{- $_ := set $endpoint "bearerTokenFile" (printf "/etc/stowage/prometheus/%s/token" $name) }}
{{- end }}
{{- if .ca }}
{{- $_ := set $endpoint "caFile" (printf "/etc/stowage/prometheus/%s/ca.crt" $name) }}
{{- end }}
- {{ toJson $endpoint }}
{{- end }}
rules:
{{- range .Values.training.promqlRules }}
- {{ toJson . }}
{{- end }}
{{- end }}
