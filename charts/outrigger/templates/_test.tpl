{{/* The labels of the pod of `helm test`: not the webhook's, or the Service would lead to it. */}}
{{- define "outrigger.testLabels" -}}
app.kubernetes.io/name: {{ include "outrigger.name" . }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/component: test
{{- end -}}
