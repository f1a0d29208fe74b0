{{/* Whether there is a Service for metrics ("true" or ""). */}}
{{- define "outrigger.metricsService" -}}
{{- if or .Values.metrics.service.enabled .Values.metrics.serviceMonitor.enabled -}}true{{- end -}}
{{- end -}}

{{/* The labels of that Service: a component of its own, so that a ServiceMonitor finds it alone. */}}
{{- define "outrigger.metricsLabels" -}}
{{- include "outrigger.labels" . | fromYaml | merge (dict "app.kubernetes.io/component" "metrics") | toYaml -}}
{{- end -}}

{{/* What the endpoint of a ServiceMonitor and that of a PodMonitor have in common; takes one of their values. */}}
{{- define "outrigger.endpoint" -}}
port: operations
path: /metrics
scheme: http
{{- range $key := list "interval" "scrapeTimeout" }}
{{- with get $ $key }}
{{ $key }}: {{ . }}
{{- end }}
{{- end }}
{{- range $key := list "relabelings" "metricRelabelings" }}
{{- with get $ $key }}
{{ $key }}:
{{ toYaml . }}
{{- end }}
{{- end }}
{{- end -}}

{{/* The chart's labels and, over those of commonLabels, further ones. Takes a list: the root and these. */}}
{{- define "outrigger.labelsWith" -}}
{{- include "outrigger.labels" (first .) | fromYaml | merge (dict) (last .) | toYaml -}}
{{- end -}}
