{{/* The chart's name, or what replaces it. */}}
{{- define "outrigger.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/* The name of objects, at most 46 characters, so that the longest suffix (-profile-defaults) stays
within 63. A release may have dots in its name; a Service may not. */}}
{{- define "outrigger.fullname" -}}
{{- $name := include "outrigger.name" . -}}
{{- $full := .Release.Name -}}
{{- if not (contains $name .Release.Name) -}}
{{- $full = printf "%s-%s" .Release.Name $name -}}
{{- end -}}
{{- default $full .Values.fullnameOverride | replace "." "-" | trunc 46 | trimSuffix "-" -}}
{{- end -}}

{{/* Labels that select the webhook's pods. They never change: a Deployment's selector is immutable. */}}
{{- define "outrigger.selectorLabels" -}}
app.kubernetes.io/name: {{ include "outrigger.name" . }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/component: webhook
{{- end -}}

{{- define "outrigger.labels" -}}
{{ include "outrigger.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "outrigger.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "outrigger.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "outrigger.image" -}}
{{- .Values.image.repository }}:{{ default .Chart.AppVersion .Values.image.tag }}
{{- with .Values.image.digest }}@{{ . }}{{ end -}}
{{- end -}}

{{/* The Secret with tls.crt and tls.key. That of mode managed has a name of its own, so that a change of mode
does not meet a Secret that belongs to somebody else. */}}
{{- define "outrigger.tlsSecretName" -}}
{{- if eq .Values.tls.mode "managed" -}}
{{- default (printf "%s-certificate" (include "outrigger.fullname" .)) .Values.tls.secretName -}}
{{- else if eq .Values.tls.mode "cert-manager" -}}
{{- default (printf "%s-tls" (include "outrigger.fullname" .)) .Values.tls.secretName -}}
{{- else -}}
{{- .Values.tls.secretName -}}
{{- end -}}
{{- end -}}

{{/* tls.caBundle as PEM, whichever way it was given. Empty when it is neither. */}}
{{- define "outrigger.caBundlePEM" -}}
{{- $given := .Values.tls.caBundle | trim -}}
{{- $begin := "-----BEGIN CERTIFICATE-----" -}}
{{- if contains $begin $given -}}
{{- $given -}}
{{- else -}}
{{- $decoded := regexReplaceAll "\\s" $given "" | b64dec -}}
{{- if contains $begin $decoded -}}{{- $decoded | trim -}}{{- end -}}
{{- end -}}
{{- end -}}

{{/* Whether the chart runs the webhook ("true"), or only registers one that runs elsewhere (""). */}}
{{- define "outrigger.runs" -}}
{{- if not .Values.webhook.url -}}true{{- end -}}
{{- end -}}

{{/* Whether there are profiles beside the built-in ones ("true" or ""). */}}
{{- define "outrigger.hasProfiles" -}}
{{- if or .Values.profiles .Values.catalogue -}}true{{- end -}}
{{- end -}}

{{/*
A profile as the document that the server reads. Takes name and profile (a spec, or a document as text).
*/}}
{{- define "outrigger.profileDocument" -}}
{{- if kindIs "string" .profile -}}
{{- .profile -}}
{{- else -}}
apiVersion: outrigger.dev/v1alpha1
kind: SidecarProfile
metadata:
  name: {{ .name }}
spec:
  {{- toYaml .profile | nindent 2 }}
{{ end -}}
{{- end -}}

{{/* Namespaces that no webhook of ours is called for, as an item of matchExpressions. */}}
{{- define "outrigger.excludedNamespaces" -}}
- key: kubernetes.io/metadata.name
  operator: NotIn
  values:
  {{- concat (list "kube-system" "kube-node-lease" .Release.Namespace) .Values.webhook.excludedNamespaces | uniq | toYaml | nindent 2 }}
{{- end -}}

{{/* Whether reviews can be posted to other paths ("true" or ""): a url of another form than …/mutate tells
of one path only. */}}
{{- define "outrigger.validates" -}}
{{- if or (not .Values.webhook.url) (hasSuffix "/mutate" .Values.webhook.url) -}}true{{- end -}}
{{- end -}}

{{/* The root as outrigger.clientConfig takes it for another path than /mutate. Takes root and path. */}}
{{- define "outrigger.clientConfigAt" -}}
{{- $root := pick .root "Values" "Release" "Chart" "Template" "Capabilities" -}}
{{- include "outrigger.clientConfig" (set $root "path" .path) -}}
{{- end -}}

{{/* Where the API server finds the webhook, and how it verifies it. */}}
{{- define "outrigger.clientConfig" -}}
{{- if .Values.webhook.url -}}
url: {{ with .path }}{{ printf "%s%s" (trimSuffix "/mutate" $.Values.webhook.url) . | quote }}{{ else }}{{ .Values.webhook.url | quote }}{{ end }}
{{- else -}}
service:
  name: {{ include "outrigger.fullname" . }}
  namespace: {{ .Release.Namespace | quote }}
  path: {{ default "/mutate" .path }}
  port: {{ .Values.service.port }}
{{- end }}
{{- if eq .Values.tls.mode "files" }}
caBundle: {{ include "outrigger.caBundlePEM" . | printf "%s\n" | b64enc }}
{{- end }}
{{- end -}}
