{{/*
What the API server would fill into custom resources is written out: what compares a manifest with what is stored, as Argo CD
does, would find a difference for ever. tests/chart/manifests.py looks whether it is complete.
*/}}

{{/* A duration as Go writes it, which operators write back. */}}
{{- define "message-webhook.goDuration" -}}
{{- $seconds := div (include "message-webhook.milliseconds" . | int64) 1000 -}}
{{- $text := printf "%ds" (mod $seconds 60) -}}
{{- if ge $seconds 60 -}}
{{- $text = printf "%dm%s" (mod (div $seconds 60) 60) $text -}}
{{- end -}}
{{- if ge $seconds 3600 -}}
{{- $text = printf "%dh%s" (div $seconds 3600) $text -}}
{{- end -}}
{{ $text }}
{{- end }}

{{- define "message-webhook.parentRefs" -}}
{{- $refs := list -}}
{{- range . -}}
{{- $refs = append $refs (merge (deepCopy .) (dict "group" "gateway.networking.k8s.io" "kind" "Gateway")) -}}
{{- end -}}
{{ toYaml $refs }}
{{- end }}

{{/* The matches of a route. Takes a list: the kind and the matches. */}}
{{- define "message-webhook.matches" -}}
{{- $isHttp := eq (index . 0) "HTTPRoute" -}}
{{- $matches := list -}}
{{- $given := index . 1 -}}
{{- if and $isHttp (not $given) -}}
{{- $given = list (dict) -}}
{{- end -}}
{{- range $given -}}
{{- $match := deepCopy . -}}
{{- if $isHttp -}}
{{- $match = merge $match (dict "path" (dict "type" "PathPrefix" "value" "/")) -}}
{{- else if hasKey $match "method" -}}
{{- $match = merge $match (dict "method" (dict "type" "Exact")) -}}
{{- end -}}
{{- range $part := list "headers" "queryParams" -}}
{{- if hasKey $match $part -}}
{{- $items := list -}}
{{- range index $match $part -}}
{{- $items = append $items (merge . (dict "type" "Exact")) -}}
{{- end -}}
{{- $_ := set $match $part $items -}}
{{- end -}}
{{- end -}}
{{- $matches = append $matches $match -}}
{{- end -}}
{{ toYaml $matches }}
{{- end }}

{{- define "message-webhook.filters" -}}
{{- $filters := list -}}
{{- range . -}}
{{- $filter := deepCopy . -}}
{{- with $filter.requestRedirect -}}
{{- $_ := set $filter "requestRedirect" (merge . (dict "statusCode" 302)) -}}
{{- end -}}
{{- with $filter.cors -}}
{{- $_ := set $filter "cors" (merge . (dict "maxAge" 5)) -}}
{{- end -}}
{{- with $filter.requestMirror -}}
{{- $_ := set $filter "requestMirror" (merge . (dict "backendRef" (dict "group" "" "kind" "Service"))) -}}
{{- with .fraction -}}
{{- $_ := set $filter.requestMirror "fraction" (merge . (dict "denominator" 100)) -}}
{{- end -}}
{{- end -}}
{{- $filters = append $filters $filter -}}
{{- end -}}
{{ toYaml $filters }}
{{- end }}

{{/* What an ExternalSecret reads. */}}
{{- define "message-webhook.externalData" -}}
{{- $entries := list -}}
{{- range . -}}
{{- $entry := deepCopy . -}}
{{- with $entry.remoteRef -}}
{{- $_ := set $entry "remoteRef" (merge . (dict "conversionStrategy" "Default" "decodingStrategy" "None" "metadataPolicy" "None")) -}}
{{- end -}}
{{- with $entry.sourceRef -}}
{{- with .generatorRef -}}
{{- $_ := set $entry.sourceRef "generatorRef" (merge . (dict "apiVersion" "generators.external-secrets.io/v1alpha1")) -}}
{{- end -}}
{{- end -}}
{{- $entries = append $entries $entry -}}
{{- end -}}
{{ toYaml $entries }}
{{- end }}

{{/* Rules of relabelling. */}}
{{- define "message-webhook.relabelings" -}}
{{- $rules := list -}}
{{- range . -}}
{{- $rules = append $rules (merge (deepCopy .) (dict "action" "replace")) -}}
{{- end -}}
{{ toYaml $rules }}
{{- end }}
