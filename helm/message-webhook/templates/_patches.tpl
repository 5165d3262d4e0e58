{{/*
The objects of a template, with common annotations and as `patches` changes them. Takes a list: the context and the text.
*/}}
{{- define "message-webhook.patched" -}}
{{- $ := index . 0 -}}
{{- if not (or $.Values.patches $.Values.commonAnnotations) -}}
{{ index . 1 }}
{{- else -}}
{{- range regexSplit "(?m)^---$" (index . 1) -1 -}}
{{- $object := fromYaml . -}}
{{- if $object.kind -}}
{{- with $.Values.commonAnnotations -}}
{{- $_ := set $object.metadata "annotations" (merge (default dict $object.metadata.annotations) .) -}}
{{- end -}}
{{- range $.Values.patches -}}
{{- if and (eq .kind $object.kind) (or (not .name) (eq (default "" .name) $object.metadata.name)) -}}
{{- $object = (include "message-webhook.merged" (list $object .patch) | fromYaml).value -}}
{{- end -}}
{{- end }}
---
{{ toYaml $object }}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end }}

{{/*
What a patch makes of a value: maps are merged, null takes away, lists of what has a name are merged by it, all else is replaced.
Takes a list: the value and the patch.
*/}}
{{- define "message-webhook.merged" -}}
{{- $value := index . 0 -}}
{{- $patch := index . 1 -}}
{{- if and (kindIs "map" $value) (kindIs "map" $patch) -}}
{{- $merged := deepCopy $value -}}
{{- range $name, $part := $patch -}}
{{- if kindIs "invalid" $part -}}
{{- $merged = omit $merged $name -}}
{{- else if hasKey $merged $name -}}
{{- $_ := set $merged $name (include "message-webhook.merged" (list (index $merged $name) $part) | fromYaml).value -}}
{{- else -}}
{{- $_ := set $merged $name $part -}}
{{- end -}}
{{- end -}}
{{ toYaml (dict "value" $merged) }}
{{- else if and (kindIs "slice" $value) (kindIs "slice" $patch) (include "message-webhook.areNamed" (concat $value $patch)) -}}
{{- $merged := list -}}
{{- $known := dict -}}
{{- range $item := $value -}}
{{- $_ := set $known $item.name true -}}
{{- range $patch -}}
{{- if eq .name $item.name -}}
{{- $item = (include "message-webhook.merged" (list $item .) | fromYaml).value -}}
{{- end -}}
{{- end -}}
{{- $merged = append $merged $item -}}
{{- end -}}
{{- range $patch -}}
{{- if not (hasKey $known .name) -}}
{{- $merged = append $merged . -}}
{{- end -}}
{{- end -}}
{{ toYaml (dict "value" $merged) }}
{{- else -}}
{{ toYaml (dict "value" $patch) }}
{{- end -}}
{{- end }}

{{- define "message-webhook.areNamed" -}}
{{- $are := "true" -}}
{{- range . -}}
{{- if not (kindIs "map" .) -}}
{{- $are = "" -}}
{{- else if not .name -}}
{{- $are = "" -}}
{{- end -}}
{{- end -}}
{{ $are }}
{{- end }}
