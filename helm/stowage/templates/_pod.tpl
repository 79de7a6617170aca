{{/* What all pods of the chart share; all of it passes the Pod Security Standard "restricted". */}}

{{- define "stowage.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "stowage.containerSecurity" -}}
allowPrivilegeEscalation: false
privileged: false
readOnlyRootFilesystem: true
runAsNonRoot: true
capabilities:
  drop: [ALL]
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{/* Where pods may go; takes a list: the root, the component, its values. */}}
{{- define "stowage.placement" -}}
{{- $component := index . 1 }}
{{- $selector := include "stowage.selector" (list (index . 0) $component) }}
{{- $priorityClass := include "stowage.priorityClassName" (index . 0) }}
{{- $nodeLossSeconds := int (index . 0).Values.nodeLossSeconds }}
{{- with index . 2 -}}
{{- with .priorityClassName | default $priorityClass -}}
priorityClassName: {{ . }}
{{- end }}
{{- with .nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
tolerations:
  {{- range tuple "not-ready" "unreachable" }}
  - key: node.kubernetes.io/{{ . }}
    operator: Exists
    effect: NoExecute
    tolerationSeconds: {{ $nodeLossSeconds }}
  {{- end }}
  {{- with .tolerations }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
affinity:
  {{- if .affinity }}
  {{- toYaml .affinity | nindent 2 }}
  {{- else }}
  podAntiAffinity:
    preferredDuringSchedulingIgnoredDuringExecution:
    - weight: 100
      podAffinityTerm:
        topologyKey: kubernetes.io/hostname
        labelSelector:
          matchLabels:
            {{- $selector | nindent 12 }}
  {{- end }}
topologySpreadConstraints:
  {{- if .topologySpreadConstraints }}
  {{- toYaml .topologySpreadConstraints | nindent 2 }}
  {{- else }}
  - topologyKey: topology.kubernetes.io/zone
    maxSkew: 1
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- $selector | nindent 8 }}
  {{- end }}
{{- end }}
{{- end }}

{{/* Probes of a process of Stowage; takes a list: the probes' values, the port's name. */}}
{{- define "stowage.probes" -}}
{{- $port := index . 1 }}
{{- with index . 0 -}}
startupProbe:
  httpGet:
    path: /healthz
    port: {{ $port }}
  {{- toYaml .startup | nindent 2 }}
livenessProbe:
  httpGet:
    path: /healthz
    port: {{ $port }}
  {{- toYaml .liveness | nindent 2 }}
readinessProbe:
  httpGet:
    path: /readyz
    port: {{ $port }}
  {{- toYaml .readiness | nindent 2 }}
{{- end }}
{{- end }}

{{/* What each pod template says of its pod. */}}
{{- define "stowage.podCommon" -}}
automountServiceAccountToken: true
enableServiceLinks: false
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  {{- include "stowage.podSecurity" . | nindent 2 }}
terminationGracePeriodSeconds: 30
{{- end }}

{{/* Annotations that lead a Prometheus without operator to a port; takes a list: the root, the port. */}}
{{- define "stowage.scrapeAnnotations" -}}
{{- if (index . 0).Values.metrics.scrapeAnnotations -}}
prometheus.io/scrape: "true"
prometheus.io/port: {{ index . 1 | quote }}
prometheus.io/path: /metrics
{{- end }}
{{- end }}

{{- define "stowage.tmp" -}}
- name: tmp
  emptyDir:
    sizeLimit: 256Mi
{{- end }}
