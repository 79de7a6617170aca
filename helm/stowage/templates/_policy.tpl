{{/* The mode of the default policy that is there; empty: there is none, or nobody to ask. */}}
{{- define "stowage.foundPolicyMode" -}}
{{- if .Capabilities.APIVersions.Has "stowage.dev/v1alpha1/PackingPolicy" }}
{{- with lookup "stowage.dev/v1alpha1" "PackingPolicy" "" .Values.packing.defaultPolicy.name }}
{{- .spec.mode | default "Recommend" }}
{{- end }}
{{- end }}
{{- end }}

{{- define "stowage.defaultPolicySpec" -}}
{{- with .Values.packing.defaultPolicy -}}
mode: {{ .mode }}
steering: {{ .steering }}
schedulerNames:
  {{- $own := ternary $.Values.scheduler.schedulerName "default-scheduler" $.Values.scheduler.enabled }}
  {{- .schedulerNames | default (list $own) | toYaml | nindent 2 }}
{{- with .nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $.Values.watchNamespaces }}
# elsewhere the operator may move nothing
namespaceSelector:
  matchExpressions:
  - key: kubernetes.io/metadata.name
    operator: In
    values:
      {{- toYaml . | nindent 6 }}
{{- end }}
disruption:
  maxMovesPerPlan: {{ int .maxMovesPerPlan }}
  maxMovesPerHour: {{ int .maxMovesPerHour }}
{{- end }}
{{- end }}
