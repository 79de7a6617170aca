{{/* An extender belongs to all profiles of a scheduler, hence the scheduler of its own. */}}
{{- define "stowage.schedulerConfiguration" -}}
apiVersion: kubescheduler.config.k8s.io/v1
kind: KubeSchedulerConfiguration
clientConnection:
  # a custom configuration is held to 50 requests a second otherwise
  qps: {{ .Values.scheduler.clientConnection.qps }}
  burst: {{ int .Values.scheduler.clientConnection.burst }}
leaderElection:
  leaderElect: true
  resourceNamespace: {{ .Release.Namespace }}
  resourceName: {{ include "stowage.schedulerLease" . }}
percentageOfNodesToScore: {{ int .Values.scheduler.percentageOfNodesToScore }}
profiles:
- schedulerName: {{ .Values.scheduler.schedulerName }}
  plugins:
    postFilter:
      # who has to yield is part of a plan
      disabled:
      - name: DefaultPreemption
extenders:
- urlPrefix: http://127.0.0.1:8900
  filterVerb: filter
  preemptVerb: preempt
  nodeCacheCapable: true
  # with no extender there pods are scheduled all the same
  ignorable: true
  httpTimeout: 1s
  {{- with .Values.scheduler.managedResources }}
  managedResources:
  {{- range . }}
  - name: {{ . }}
    ignoredByScheduler: false
  {{- end }}
  {{- end }}
{{- end }}

{{/* The tag that Kubernetes gives its images: the server's version without what its vendor added. */}}
{{- define "stowage.schedulerTag" -}}
{{- .Values.scheduler.image.tag | default (regexFind "v[0-9]+\\.[0-9]+\\.[0-9]+" .Capabilities.KubeVersion.Version) }}
{{- end }}

{{/* The version of the API in which this server has MutatingAdmissionPolicies; empty: it has none. */}}
{{- define "stowage.mutatingPolicyVersion" -}}
{{- $group := "admissionregistration.k8s.io" }}
{{- if .Capabilities.APIVersions.Has (printf "%s/v1/MutatingAdmissionPolicy" $group) }}
{{- printf "%s/v1" $group }}
{{- else if .Capabilities.APIVersions.Has (printf "%s/v1beta1/MutatingAdmissionPolicy" $group) }}
{{- printf "%s/v1beta1" $group }}
{{- end }}
{{- end }}
