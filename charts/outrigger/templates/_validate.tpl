{{/*
What values.schema.json cannot say: values that need one another. All problems are told at once, each
with the value to mend.
*/}}
{{- define "outrigger.validate" -}}
{{- $problems := list -}}
{{- $tls := .Values.tls -}}
{{- $runs := include "outrigger.runs" . -}}
{{- if eq $tls.mode "files" -}}
  {{- if and $runs (not $tls.secretName) -}}
    {{- $problems = append $problems (printf "tls.secretName is empty: name a Secret in namespace %s with tls.crt and tls.key, valid for %s.%s.svc (or set tls.mode to managed)" .Release.Namespace (include "outrigger.fullname" .) .Release.Namespace) -}}
  {{- end -}}
  {{- if not (trim $tls.caBundle) -}}
    {{- $problems = append $problems "tls.caBundle is empty: give the CA certificate that signed the webhook's, in PEM (--set-file tls.caBundle=ca.crt)" -}}
  {{- else if not (include "outrigger.caBundlePEM" .) -}}
    {{- $problems = append $problems "tls.caBundle holds no certificate: expected PEM (-----BEGIN CERTIFICATE-----), or base64 of it" -}}
  {{- else if contains "PRIVATE KEY-----" (include "outrigger.caBundlePEM" .) -}}
    {{- $problems = append $problems "tls.caBundle holds a private key: everybody may read a webhook's registration, so give certificates only" -}}
  {{- end -}}
{{- else if eq $tls.mode "managed" -}}
  {{- if not $runs -}}
    {{- $problems = append $problems "webhook.url cannot go with tls.mode managed, whose certificate is for the Service only: set tls.mode to files and give tls.caBundle" -}}
  {{- else if $tls.caBundle -}}
    {{- $problems = append $problems "tls.caBundle cannot go with tls.mode managed, in which the webhook writes the bundle itself: remove it, or set tls.mode to files" -}}
  {{- end -}}
{{- else -}}
  {{- if $runs -}}
    {{- if not $tls.certManager.issuerRef.name -}}
      {{- $problems = append $problems "tls.certManager.issuerRef.name is empty: name the Issuer or ClusterIssuer that signs the webhook's certificate" -}}
    {{- end -}}
  {{- else -}}
    {{- $problems = append $problems "webhook.url cannot go with tls.mode cert-manager, which issues for the Service only: set tls.mode to files and give tls.caBundle" -}}
  {{- end -}}
  {{- if $tls.caBundle -}}
    {{- $problems = append $problems "tls.caBundle cannot go with tls.mode cert-manager, which writes the bundle itself: remove it" -}}
  {{- end -}}
{{- end -}}
{{- range $name := .Values.catalogue -}}
  {{- if not ($.Files.Get (printf "catalogue/%s.yaml" $name)) -}}
    {{- $known := list -}}
    {{- range $path, $_ := $.Files.Glob "catalogue/*.yaml" -}}
      {{- $known = append $known (trimSuffix ".yaml" (base $path)) -}}
    {{- end -}}
    {{- $problems = append $problems (printf "catalogue: there is no profile %q; there are %s" $name (join ", " $known)) -}}
  {{- end -}}
  {{- if hasKey $.Values.profiles $name -}}
    {{- $problems = append $problems (printf "profiles.%s is also named in catalogue: leave one of them out" $name) -}}
  {{- end -}}
{{- end -}}
{{- range $name, $profile := .Values.profiles -}}
  {{- if kindIs "string" $profile -}}
    {{- $document := fromYaml $profile -}}
    {{- if hasKey $document "Error" -}}
      {{- $problems = append $problems (printf "profiles.%s is not YAML: %s" $name $document.Error) -}}
    {{- else if ne (toString $document.kind) "SidecarProfile" -}}
      {{- $problems = append $problems (printf "profiles.%s: as text it is a whole document, with kind SidecarProfile" $name) -}}
    {{- else if ne (toString (dig "metadata" "name" "" $document)) $name -}}
      {{- $problems = append $problems (printf "profiles.%s: the document is named %q in metadata.name" $name (toString (dig "metadata" "name" "" $document))) -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- if $runs -}}
  {{- $problems = concat $problems (include "outrigger.podProblems" . | fromJsonArray) -}}
{{- end -}}
{{- if $problems -}}
{{- fail (printf "\n- %s" (join "\n- " $problems)) -}}
{{- end -}}
{{- end -}}
