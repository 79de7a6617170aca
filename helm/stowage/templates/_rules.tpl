{{/* Generated from stowage.cli.rights: change that, then run `python -m stowage.cli.roles`. */}}

{{/* the facts of a snapshot */}}
{{- define "stowage.rules.operator.read" -}}
- apiGroups: ['']
  resources: [nodes, pods, namespaces]
  verbs: [list, watch]
- apiGroups: [apps]
  resources: [replicasets, deployments, statefulsets, daemonsets]
  verbs: [list, watch]
- apiGroups: [batch]
  resources: [jobs]
  verbs: [list, watch]
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [list, watch]
- apiGroups: [scheduling.k8s.io]
  resources: [priorityclasses, podgroups]
  verbs: [list, watch]
- apiGroups: [scheduling.x-k8s.io]
  resources: [podgroups]
  verbs: [list, watch]
- apiGroups: ['']
  resources: [persistentvolumeclaims, persistentvolumes, resourcequotas]
  verbs: [list, watch]
- apiGroups: [storage.k8s.io]
  resources: [storageclasses, csinodes, csidrivers]
  verbs: [list, watch]
- apiGroups: [apiextensions.k8s.io]
  resources: [customresourcedefinitions]
  verbs: [list, watch]
- apiGroups: [stowage.dev]
  resources: [packingpolicies]
  verbs: [get, list, watch]
- apiGroups: ['']
  resources: [nodes]
  verbs: [get]
- apiGroups: ['']
  resources: [pods]
  verbs: [get]
- apiGroups: [stowage.dev]
  resources: [trainingjobs]
  verbs: [get, list, watch]
- apiGroups: [stowage.dev]
  resources: [modelservices, performanceprofiles]
  verbs: [get, list, watch]
{{- end }}

{{/* policies and plans, which belong to the cluster */}}
{{- define "stowage.rules.operator.plan" -}}
- apiGroups: [stowage.dev]
  resources: [packingplans]
  verbs: [get, list, watch, create, delete]
- apiGroups: [stowage.dev]
  resources: [packingpolicies/status, packingplans/status]
  verbs: [update]
- apiGroups: [stowage.dev]
  resources: [performanceprofiles/status]
  verbs: [update]
{{- end }}

{{/* taints and annotations of nodes, which no namespace can bound */}}
{{- define "stowage.rules.operator.nodes" -}}
- apiGroups: ['']
  resources: [nodes]
  verbs: [patch]
{{- end }}

{{/* what carrying out a plan changes in the namespaces of workloads */}}
{{- define "stowage.rules.operator.workloads" -}}
- apiGroups: ['']
  resources: [pods/eviction]
  verbs: [create]
- apiGroups: ['']
  resources: [pods]
  verbs: [patch]
- apiGroups: ['']
  resources: [pods/binding]
  verbs: [create]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create]
- apiGroups: [stowage.dev]
  resources: [trainingjobs]
  verbs: [delete]
- apiGroups: [stowage.dev]
  resources: [trainingjobs/status]
  verbs: [update]
- apiGroups: ['']
  resources: [pods]
  verbs: [create, delete]
- apiGroups: ['']
  resources: [services]
  verbs: [get, create, patch]
- apiGroups: ['']
  resources: [secrets]
  verbs: [get, create]
- apiGroups: [stowage.dev]
  resources: [modelservices/status]
  verbs: [update]
- apiGroups: [apps]
  resources: [deployments]
  verbs: [get, create, patch, delete]
- apiGroups: ['']
  resources: [services]
  verbs: [list, delete]
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [get, create, patch, delete]
{{- end }}

{{/* leading */}}
{{- define "stowage.rules.operator.lease" -}}
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  resourceNames: ['{{ include "stowage.operatorLease" . }}']
  verbs: [get, update]
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  verbs: [create, list]
{{- end }}

{{/* who leads the schedulers */}}
{{- define "stowage.rules.operator.schedulerLease" -}}
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  resourceNames: ['{{ include "stowage.watchedLease" . }}']
  verbs: [get]
{{- end }}

{{/* the webhook's certificate */}}
{{- define "stowage.rules.operator.webhookSecret" -}}
- apiGroups: ['']
  resources: [secrets]
  resourceNames: ['{{ include "stowage.webhookSecret" . }}']
  verbs: [get, update]
{{- end }}

{{/* the certificate authority in the webhook's configuration */}}
{{- define "stowage.rules.operator.webhookConfiguration" -}}
- apiGroups: [admissionregistration.k8s.io]
  resources: [validatingwebhookconfigurations]
  resourceNames: ['{{ include "stowage.fullname" . }}']
  verbs: [get, patch]
{{- end }}

{{/* pods, plans, and their acknowledgement */}}
{{- define "stowage.rules.extender.read" -}}
- apiGroups: ['']
  resources: [pods]
  verbs: [list, watch]
- apiGroups: [stowage.dev]
  resources: [packingplans]
  verbs: [list, watch]
- apiGroups: [stowage.dev]
  resources: [packingplans/status]
  verbs: [patch]
{{- end }}

{{/* the sign that it lives */}}
{{- define "stowage.rules.extender.lease" -}}
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  verbs: [create, patch, delete]
{{- end }}
