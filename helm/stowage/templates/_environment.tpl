{{/* Settings of the processes, see stowage.run.settings. */}}

{{- define "stowage.environment" -}}
- name: STOWAGE_NAMESPACE
  valueFrom:
    fieldRef:
      fieldPath: metadata.namespace
- name: STOWAGE_METRICS_HOST
  value: 0.0.0.0
- name: STOWAGE_LOG_FORMAT
  value: {{ .Values.operator.logFormat }}
- name: STOWAGE_LOG_LEVEL
  value: {{ .Values.operator.logLevel }}
{{- end }}

{{- define "stowage.operatorEnvironment" -}}
{{ include "stowage.environment" . }}
- name: STOWAGE_METRICS_PORT
  value: "8080"
- name: STOWAGE_IDENTITY
  valueFrom:
    fieldRef:
      fieldPath: metadata.name
- name: STOWAGE_LEASE_NAME
  value: {{ include "stowage.operatorLease" . }}
{{- /* of 15 s: renewed within 10 s, tried every 2 s; terms of other lengths keep the proportions */}}
{{- with int .Values.operator.leaseSeconds }}
- name: STOWAGE_LEASE_SECONDS
  value: {{ . | quote }}
- name: STOWAGE_RENEW_WITHIN_SECONDS
  value: {{ divf (mulf . 2) 3 | printf "%.2f" | quote }}
- name: STOWAGE_LEASE_RETRY_SECONDS
  value: {{ divf (mulf . 2) 15 | printf "%.2f" | quote }}
{{- end }}
- name: STOWAGE_SCHEDULER_LEASE_NAMESPACE
  value: {{ include "stowage.watchedLeaseNamespace" . }}
- name: STOWAGE_SCHEDULER_LEASE_NAME
  value: {{ include "stowage.watchedLease" . }}
{{- with .Values.watchNamespaces }}
- name: STOWAGE_WATCH_NAMESPACES
  value: {{ join "," . }}
{{- end }}
{{- if .Values.prometheus.endpoints }}
- name: STOWAGE_PROMETHEUS_CONFIG
  value: /etc/stowage/prometheus/prometheus.yaml
{{- end }}
- name: STOWAGE_WORKER_IMAGE
  value: {{ include "stowage.image" . }}
- name: STOWAGE_SEED
  value: {{ int64 .Values.operator.seed | quote }}
{{- with .Values.operator.solverWorkers }}
- name: STOWAGE_SOLVER_WORKERS
  value: {{ int . | quote }}
{{- end }}
{{- if .Values.webhook.enabled }}
- name: STOWAGE_WEBHOOK_HOST
  value: 0.0.0.0
- name: STOWAGE_WEBHOOK_PORT
  value: "9443"
- name: STOWAGE_WEBHOOK_NAME
  value: {{ include "stowage.webhookService" . }}.{{ .Release.Namespace }}.svc
{{- if .Values.webhook.certManager.enabled }}
- name: STOWAGE_WEBHOOK_CERTIFICATES
  value: /etc/stowage/webhook
{{- else }}
- name: STOWAGE_WEBHOOK_SECRET
  value: {{ include "stowage.webhookSecret" . }}
- name: STOWAGE_WEBHOOK_CONFIGURATION
  value: {{ include "stowage.fullname" . }}
{{- end }}
{{- end }}
{{- with .Values.operator.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "stowage.extenderEnvironment" -}}
{{ include "stowage.environment" . }}
- name: STOWAGE_METRICS_PORT
  value: "8901"
- name: STOWAGE_PORT
  value: "8900"
{{- end }}
