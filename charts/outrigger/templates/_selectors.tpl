{{/*
The admin's own selector of namespaces, as items of matchExpressions. Labels become requirements, so that they
stand beside those that the chart writes and cannot replace them. Both here begin with a line's end, so that nothing leaves nothing.
*/}}
{{- define "outrigger.namespaceExpressions" -}}
{{- $expressions := list -}}
{{- range $key, $value := .Values.webhook.namespaceSelector.matchLabels -}}
{{- $expressions = append $expressions (dict "key" $key "operator" "In" "values" (list $value)) -}}
{{- end -}}
{{- with concat $expressions .Values.webhook.namespaceSelector.matchExpressions -}}
{{- toYaml . | nindent 4 -}}
{{- end -}}
{{- end -}}

{{/* The admin's own selector of pods, whole; nothing when it is empty. */}}
{{- define "outrigger.objectSelector" -}}
{{- $selector := dict -}}
{{- range $key, $value := .Values.webhook.objectSelector -}}
{{- if $value -}}{{- $_ := set $selector $key $value -}}{{- end -}}
{{- end -}}
{{- with $selector }}
  objectSelector:
    {{- toYaml . | nindent 4 }}
{{- end -}}
{{- end -}}
