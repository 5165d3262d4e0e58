{{/*
What the series of this release have and those of no other: the namespace, and the job that the operator makes of a monitor.
*/}}
{{- define "message-webhook.metricsSelector" -}}
{{- $metrics := .Values.metrics -}}
{{- $name := include "message-webhook.fullname" . -}}
{{- $monitor := ternary $metrics.podMonitor $metrics.serviceMonitor $metrics.podMonitor.enabled -}}
{{- if $metrics.rules.selector -}}
{{ $metrics.rules.selector }}
{{- else if and $monitor.enabled $monitor.jobLabel -}}
{{- $labels := include "message-webhook.labels" (list . "admin") | fromYaml -}}
{{- if $metrics.podMonitor.enabled -}}
{{- $labels = include "message-webhook.podLabels" (list . "server" .Values.podLabels) | fromYaml -}}
{{- end -}}
{{- if not (hasKey $labels $monitor.jobLabel) -}}
{{- fail (printf "the monitor's jobLabel '%s' is no label of the chart's, so the rules do not know the job. Set metrics.rules.selector." $monitor.jobLabel) -}}
{{- end -}}
namespace={{ include "message-webhook.namespace" . | quote }}, job={{ index $labels $monitor.jobLabel | quote }}
{{- else if $metrics.podMonitor.enabled -}}
namespace={{ include "message-webhook.namespace" . | quote }}, job={{ printf "%s/%s" (default (include "message-webhook.namespace" .) $metrics.podMonitor.namespace) $name | quote }}
{{- else -}}
namespace={{ include "message-webhook.namespace" . | quote }}, job={{ include "message-webhook.named" (list . "-admin") | quote }}
{{- end -}}
{{- end }}

{{/*
The groups of rules/message-webhook.yaml, of this release and as `metrics.rules` has them. Takes a list: the context and
these values.
*/}}
{{- define "message-webhook.ruleGroups" -}}
{{- $ := index . 0 -}}
{{- $values := index . 1 -}}
{{- $text := required "the chart lacks rules/message-webhook.yaml" ($.Files.Get "rules/message-webhook.yaml") -}}
{{- $text = replace "job=\"message-webhook\"" (include "message-webhook.metricsSelector" $) $text -}}
{{- $allowed := round (subf 100 $values.objective) 4 -}}
{{- $text = replace "* 0.001" (printf "* %v" (round (divf $allowed 100) 6)) $text -}}
{{- $text = replace "the objective is 0.1 %" (printf "the objective is %v %%" $allowed) $text -}}
{{- with $values.runbookBaseUrl -}}
{{- $text = replace "runbook_url: " (printf "runbook_url: %s/" (trimSuffix "/" .)) $text -}}
{{- end -}}
{{- $groups := list -}}
{{- $known := list -}}
{{- range (fromYaml $text).groups -}}
{{- $rules := list -}}
{{- range $rule := .rules -}}
{{- $isKept := true -}}
{{- with $rule.alert -}}
{{- $known = append $known . -}}
{{- $change := default dict (index $values.alerts .) -}}
{{- if eq (toString $change.enabled) "false" -}}
{{- $isKept = false -}}
{{- end -}}
{{- /* Stopped by its values is not gone. */ -}}
{{- if and (eq . "MessageWebhookAbsent") (not (include "message-webhook.isScaled" $)) (eq (int $.Values.replicaCount) 0) -}}
{{- $isKept = false -}}
{{- end -}}
{{- if hasKey $change "threshold" -}}
{{- /* The number that is first compared with. */ -}}
{{- $pattern := "^((?s:.*?)[<>]=? )-?[0-9.]+" -}}
{{- if contains "error_ratio" $rule.expr -}}
{{- fail (printf "metrics.rules.alerts.%s.threshold: it has none of its own, but that of metrics.rules.objective." .) -}}
{{- end -}}
{{- if not (regexMatch $pattern $rule.expr) -}}
{{- fail (printf "metrics.rules.alerts.%s.threshold: this alert compares with no number that could be changed." .) -}}
{{- end -}}
{{- $_ := set $rule "expr" (regexReplaceAll $pattern $rule.expr (printf "${1}%v" $change.threshold)) -}}
{{- end -}}
{{- with index $change "for" -}}
{{- $_ := set $rule "for" . -}}
{{- end -}}
{{- $_ := set $rule "labels" (mergeOverwrite (dict) $rule.labels $values.alertLabels (default dict $change.labels)) -}}
{{- with $change.severity -}}
{{- $_ := set $rule.labels "severity" . -}}
{{- end -}}
{{- $_ := set $rule "annotations" (mergeOverwrite (dict) $rule.annotations $values.alertAnnotations (default dict $change.annotations)) -}}
{{- end -}}
{{- if $isKept -}}
{{- $rules = append $rules $rule -}}
{{- end -}}
{{- end -}}
{{- if $rules -}}
{{- $groups = append $groups (dict "name" .name "rules" $rules) -}}
{{- end -}}
{{- end -}}
{{- range $name := keys $values.alerts | sortAlpha -}}
{{- if not (has $name $known) -}}
{{- fail (printf "metrics.rules.alerts.%s: there is no such alert. They are in rules/message-webhook.yaml." $name) -}}
{{- end -}}
{{- end -}}
{{ toYaml $groups }}
{{- end }}
