{{/*
Load balancers outside of the cluster probe the pods by themselves, by default '/' on the port of the traffic, which the webhook
answers 404. They are told to ask for the readiness instead.
*/}}

{{/* The networks that they probe from, where not everybody reaches the port. Google's are published, and the same everywhere. */}}
{{- define "message-webhook.probeRanges" -}}
{{- $balancer := .Values.loadBalancer -}}
{{- if and (eq (int $balancer.healthCheck.port) 8080) (not .Values.networkPolicy.http.from) -}}
[]
{{- else if $balancer.probeRanges -}}
{{ toYaml $balancer.probeRanges }}
{{- else if hasPrefix "gke-" $balancer.kind -}}
{{ toYaml (list "130.211.0.0/22" "35.191.0.0/16") }}
{{- else -}}
[]
{{- end -}}
{{- end }}

{{/* By what they probe: HTTP, or HTTPS where the port of the probes speaks TLS. */}}
{{- define "message-webhook.healthCheckType" -}}
{{- $listeners := dict "8080" "http" "9090" "grpc" "9464" "admin" -}}
{{- $listener := get $listeners (toString (int .Values.loadBalancer.healthCheck.port)) -}}
{{- $isTls := and $listener (index .Values.tls $listener).existingSecret -}}
{{- ternary "HTTPS" "HTTP" (not (empty $isTls)) -}}
{{- end }}

{{/* Annotations of the Ingress that an Application Load Balancer of AWS is made of. */}}
{{- define "message-webhook.ingressAnnotations" -}}
{{- $check := .Values.loadBalancer.healthCheck -}}
{{- $own := dict -}}
{{- if eq .Values.loadBalancer.kind "aws-alb" -}}
{{- $own = dict
    "alb.ingress.kubernetes.io/target-type" "ip"
    "alb.ingress.kubernetes.io/healthcheck-protocol" (include "message-webhook.healthCheckType" .)
    "alb.ingress.kubernetes.io/healthcheck-port" (toString (int $check.port))
    "alb.ingress.kubernetes.io/healthcheck-path" $check.path
    "alb.ingress.kubernetes.io/healthcheck-interval-seconds" (toString (int $check.intervalSeconds))
    "alb.ingress.kubernetes.io/healthcheck-timeout-seconds" (toString (int $check.timeoutSeconds))
    "alb.ingress.kubernetes.io/healthy-threshold-count" (toString (int $check.healthyThreshold))
    "alb.ingress.kubernetes.io/unhealthy-threshold-count" (toString (int $check.unhealthyThreshold))
    "alb.ingress.kubernetes.io/success-codes" "200" -}}
{{- if .Values.tls.http.existingSecret -}}
{{- $_ := set $own "alb.ingress.kubernetes.io/backend-protocol" "HTTPS" -}}
{{- end -}}
{{- end -}}
{{ toYaml (mergeOverwrite $own .Values.ingress.annotations) }}
{{- end }}

{{/* Annotations of the webhook's Service. */}}
{{- define "message-webhook.httpAnnotations" -}}
{{- $check := .Values.loadBalancer.healthCheck -}}
{{- $own := dict -}}
{{- if eq .Values.loadBalancer.kind "gke-ingress" -}}
{{- $own = dict
    "cloud.google.com/neg" (dict "ingress" true | toJson)
    "cloud.google.com/backend-config" (dict "default" (include "message-webhook.fullname" .) | toJson) -}}
{{- if .Values.tls.http.existingSecret -}}
{{- $_ := set $own "cloud.google.com/app-protocols" (dict "http" "HTTPS" | toJson) -}}
{{- end -}}
{{- else if eq .Values.loadBalancer.kind "aws-nlb" -}}
{{- $own = dict
    "service.beta.kubernetes.io/aws-load-balancer-type" "external"
    "service.beta.kubernetes.io/aws-load-balancer-nlb-target-type" "ip"
    "service.beta.kubernetes.io/aws-load-balancer-healthcheck-protocol" (include "message-webhook.healthCheckType" . | lower)
    "service.beta.kubernetes.io/aws-load-balancer-healthcheck-port" (toString (int $check.port))
    "service.beta.kubernetes.io/aws-load-balancer-healthcheck-path" $check.path
    "service.beta.kubernetes.io/aws-load-balancer-healthcheck-interval" (toString (int $check.intervalSeconds))
    "service.beta.kubernetes.io/aws-load-balancer-healthcheck-timeout" (toString (int $check.timeoutSeconds))
    "service.beta.kubernetes.io/aws-load-balancer-healthcheck-healthy-threshold" (toString (int $check.healthyThreshold))
    "service.beta.kubernetes.io/aws-load-balancer-healthcheck-unhealthy-threshold" (toString (int $check.unhealthyThreshold)) -}}
{{- end -}}
{{ toYaml (mergeOverwrite $own .Values.service.http.annotations) }}
{{- end }}
