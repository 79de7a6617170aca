{{/* Names, labels and images that all templates share. */}}

{{- define "stowage.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* The name of the operator and the stem of all others: the release's name where it says "stowage" already. Cut at 40,
so that each name made from it is a label too. */}}
{{- define "stowage.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride }}
{{- else if contains (include "stowage.name" .) .Release.Name }}
{{- .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "stowage.name" .) | trunc 40 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "stowage.operatorLease" -}}
{{ include "stowage.fullname" . }}-operator
{{- end }}

{{- define "stowage.schedulerName" -}}
{{ include "stowage.fullname" . }}-scheduler
{{- end }}

{{- define "stowage.extenderName" -}}
{{ include "stowage.fullname" . }}-extender
{{- end }}

{{- define "stowage.schedulerLease" -}}
{{ include "stowage.schedulerName" . }}
{{- end }}

{{/* The lease of the scheduler that the extender stands beside: of the chart's, of the control plane's, of another. */}}
{{- define "stowage.watchedLease" -}}
{{- with .Values.operator.schedulerLease.name }}
{{- . }}
{{- else }}
{{- ternary "kube-scheduler" (include "stowage.schedulerLease" .) .Values.controlPlaneExtender.enabled }}
{{- end }}
{{- end }}

{{- define "stowage.watchedLeaseNamespace" -}}
{{- with .Values.operator.schedulerLease.namespace }}
{{- . }}
{{- else }}
{{- ternary "kube-system" .Release.Namespace .Values.controlPlaneExtender.enabled }}
{{- end }}
{{- end }}

{{- define "stowage.webhookService" -}}
{{ include "stowage.fullname" . }}-webhook
{{- end }}

{{- define "stowage.priorityClassName" -}}
{{- if .Values.priorityClass.create }}
{{- default (include "stowage.fullname" .) .Values.priorityClass.name }}
{{- else }}
{{- .Values.priorityClass.name }}
{{- end }}
{{- end }}

{{- define "stowage.webhookSecret" -}}
{{ include "stowage.fullname" . }}-webhook-tls
{{- end }}

{{/* cert-manager's Secret is of another type, and not Helm's: with one name, neither could follow the other. */}}
{{- define "stowage.certManagerSecret" -}}
{{ include "stowage.fullname" . }}-webhook-cert
{{- end }}

{{- define "stowage.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "stowage.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- required "serviceAccount.name is needed where serviceAccount.create is false" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "stowage.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/name: {{ include "stowage.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: stowage
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Labels of one component; takes a list: the root, the component. */}}
{{- define "stowage.componentLabels" -}}
{{ include "stowage.labels" (index . 0) }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{/* Labels of pods: nothing that changes with each version of the chart, or each would start them anew. */}}
{{- define "stowage.podLabels" -}}
{{ include "stowage.selector" . }}
app.kubernetes.io/part-of: stowage
{{- with (index . 0).Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* What never changes of them, for selectors; takes a list: the root, the component. */}}
{{- define "stowage.selector" -}}
app.kubernetes.io/name: {{ include "stowage.name" (index . 0) }}
app.kubernetes.io/instance: {{ (index . 0).Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{- define "stowage.image" -}}
{{- with .Values.image }}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}
{{- end }}
{{- end }}
{{- end }}

{{/* The Deployments of this release: component → name. */}}
{{- define "stowage.deployments" -}}
{{- if .Values.packing.enabled }}
operator: {{ include "stowage.fullname" . }}
{{- end }}
{{- if .Values.scheduler.enabled }}
scheduler: {{ include "stowage.schedulerName" . }}
{{- end }}
{{- if .Values.controlPlaneExtender.enabled }}
extender: {{ include "stowage.extenderName" . }}
{{- end }}
{{- end }}
