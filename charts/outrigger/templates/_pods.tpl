{{/* What is wrong with the values of the pods and of what stands around them, as a JSON list. */}}
{{- define "outrigger.podProblems" -}}
{{- $problems := list -}}
{{- $metrics := .Values.metrics -}}
{{- if eq (int .Values.webhook.port) (int $metrics.port) -}}
  {{- $problems = append $problems (printf "webhook.port and metrics.port are both %d: give each a port of its own" (int $metrics.port)) -}}
{{- end -}}
{{- if .Values.hostNetwork -}}
  {{- if or (eq (int .Values.webhook.port) 10250) (eq (int $metrics.port) 10250) -}}
    {{- $problems = append $problems "webhook.port or metrics.port is 10250, which with hostNetwork is the kubelet's: choose another, or set hostNetwork to false" -}}
  {{- end -}}
  {{- if .Values.networkPolicy.enabled -}}
    {{- $problems = append $problems "networkPolicy.enabled has no effect on pods with hostNetwork: set one of them to false" -}}
  {{- end -}}
{{- end -}}
{{- with .Values.autoscaling -}}
  {{- if .enabled -}}
    {{- if gt (int .minReplicas) (int .maxReplicas) -}}
      {{- $problems = append $problems (printf "autoscaling.minReplicas is %d and autoscaling.maxReplicas %d: the first cannot be more" (int .minReplicas) (int .maxReplicas)) -}}
    {{- end -}}
    {{- if not (dig "requests" "cpu" "" $.Values.resources) -}}
      {{- $problems = append $problems "resources.requests.cpu is empty, which autoscaling.targetCPUUtilizationPercentage is a part of: give it a quantity" -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- with .Values.updateStrategy -}}
  {{- if and (eq .type "RollingUpdate") .rollingUpdate -}}
    {{- if and (has (dig "maxSurge" 1 .rollingUpdate | toString) (list "0" "0%")) (has (dig "maxUnavailable" 1 .rollingUpdate | toString) (list "0" "0%")) -}}
      {{- $problems = append $problems "updateStrategy.rollingUpdate.maxSurge and .maxUnavailable are both 0, so that no pod could ever be replaced: raise one of them" -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- if and $metrics.serviceMonitor.enabled $metrics.podMonitor.enabled -}}
  {{- $problems = append $problems "metrics.serviceMonitor.enabled and metrics.podMonitor.enabled would scrape every pod twice: set one of them to false" -}}
{{- end -}}
{{- $alerts := list -}}
{{- range (.Files.Get "files/rules.yaml" | fromYaml).groups -}}
  {{- range .rules -}}{{- $alerts = append $alerts .alert -}}{{- end -}}
{{- end -}}
{{- range $metrics.prometheusRule.disabled -}}
  {{- if not (has . $alerts) -}}
    {{- $problems = append $problems (printf "metrics.prometheusRule.disabled: there is no alert %q; there are %s" . (join ", " $alerts)) -}}
  {{- end -}}
{{- end -}}
{{- toJson $problems -}}
{{- end -}}
