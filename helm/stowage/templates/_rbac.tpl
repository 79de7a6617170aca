{{/* A role and its binding; takes a dict: root, component, name, subject (a service account), rules, and namespace (none:
the role holds in the whole cluster). */}}
{{- define "stowage.grant" -}}
{{- $kind := ternary "Role" "ClusterRole" (hasKey . "namespace") }}
apiVersion: rbac.authorization.k8s.io/v1
kind: {{ $kind }}
metadata:
  name: {{ .name }}
  {{- with .namespace }}
  namespace: {{ . }}
  {{- end }}
  labels:
    {{- include "stowage.componentLabels" (list .root .component) | nindent 4 }}
rules:
{{ .rules }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: {{ $kind }}Binding
metadata:
  name: {{ .name }}
  {{- with .namespace }}
  namespace: {{ . }}
  {{- end }}
  labels:
    {{- include "stowage.componentLabels" (list .root .component) | nindent 4 }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: {{ $kind }}
  name: {{ .name }}
subjects:
- kind: ServiceAccount
  name: {{ .subject }}
  namespace: {{ .root.Release.Namespace }}
{{- end }}
