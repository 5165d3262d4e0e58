{{/*
What the schema cannot refuse, or not with a reason. Included by the one template that is always rendered.
*/}}
{{- define "message-webhook.checks" -}}
{{- $values := .Values -}}
{{- $scylla := $values.store.scylla -}}
{{- $isScylla := include "message-webhook.isScylla" . -}}
{{- if and $values.autoscaling.enabled $values.keda.enabled }}
{{- fail "autoscaling.enabled and keda.enabled exclude each other: KEDA makes a HorizontalPodAutoscaler of its own, and two would fight over the replicas." }}
{{- end }}
{{- if not $isScylla }}
{{- if gt (int $values.replicaCount) 1 }}
{{- fail "store.type embedded is for one replica: one process owns the volume, and two stores would each accept a message once. Set replicaCount to 1, or store.type to scylla." }}
{{- end }}
{{- if include "message-webhook.isScaled" . }}
{{- fail "store.type embedded does not scale: one process owns the volume. Turn autoscaling and keda off, or set store.type to scylla." }}
{{- end }}
{{- if $values.scyllaCluster.enabled }}
{{- fail "scyllaCluster.enabled is of no use with store.type embedded. Set store.type to scylla." }}
{{- end }}
{{- if or $scylla.nodes $scylla.auth.user $scylla.tls.enabled }}
{{- fail "store.scylla is given and store.type is embedded, so messages would stay on one volume. Set store.type to scylla, or leave store.scylla out." }}
{{- end }}
{{- range $name := keys $values.config | sortAlpha }}
{{- if hasPrefix "scylla_" $name }}
{{- fail (printf "config.%s is of the other store. Set store.type to scylla, or leave it out." $name) }}
{{- end }}
{{- end }}
{{- else }}
{{- if hasKey $values.config "store_failure_exit" }}
{{- fail "config.store_failure_exit is of the other store. Set store.type to embedded, or leave it out." }}
{{- end }}
{{- if and $values.scyllaCluster.enabled $scylla.nodes }}
{{- fail "store.scylla.nodes and scyllaCluster.enabled exclude each other: the servers use the cluster that the release makes. Leave one out." }}
{{- end }}
{{- if and (not $values.scyllaCluster.enabled) (not $scylla.nodes) }}
{{- fail "store.type scylla needs store.scylla.nodes, e.g. [scylla-client.scylla.svc:9042], or scyllaCluster.enabled." }}
{{- end }}
{{- if and $values.scyllaCluster.enabled (not $values.scyllaCluster.version) }}
{{- fail "scyllaCluster.enabled needs scyllaCluster.version, 2025.4 or later." }}
{{- end }}
{{- if and $values.scyllaCluster.enabled (eq $values.migration.mode "hook") }}
{{- fail "scyllaCluster.enabled needs migration.mode initContainer: the hook runs before the release's objects exist, and would wait for ever for the database." }}
{{- end }}
{{- include "message-webhook.checkSource" (dict "path" "store.scylla.auth" "source" $scylla.auth "needed" $scylla.auth.user "why" "store.scylla.auth.user needs a password") }}
{{- if and $values.migration.auth.user (not $values.migration.auth.existingSecret) }}
{{- fail "migration.auth.user needs a password: set migration.auth.existingSecret." }}
{{- end }}
{{- if and $values.migration.auth.existingSecret (not $values.migration.auth.user) }}
{{- fail "migration.auth.existingSecret is given and no user: set migration.auth.user." }}
{{- end }}
{{- $ca := $scylla.tls.ca }}
{{- if and $ca.existingConfigMap (or $ca.existingSecret $ca.externalSecret.enabled) }}
{{- fail "store.scylla.tls.ca has more than one source: give one of existingSecret, existingConfigMap and externalSecret." }}
{{- end }}
{{- include "message-webhook.checkSource" (dict "path" "store.scylla.tls.ca" "source" $ca "needed" (and $scylla.tls.enabled (not $ca.existingConfigMap)) "why" "store.scylla.tls.enabled needs the authorities of the servers' certificates") }}
{{- $client := $scylla.tls.clientCertificate }}
{{- if and $client.enabled (not $scylla.tls.enabled) }}
{{- fail "store.scylla.tls.clientCertificate.enabled needs store.scylla.tls.enabled, which encrypts the connections." }}
{{- end }}
{{- if and $client.certificate.enabled (or $client.existingSecret $client.externalSecret.enabled) }}
{{- fail "store.scylla.tls.clientCertificate has more than one source: give one of existingSecret, externalSecret and certificate." }}
{{- end }}
{{- if and $client.enabled $client.certificate.enabled (not $client.certificate.issuerRef) }}
{{- fail "store.scylla.tls.clientCertificate.certificate.enabled needs its issuerRef." }}
{{- end }}
{{- include "message-webhook.checkSource" (dict "path" "store.scylla.tls.clientCertificate" "source" $client "needed" (and $client.enabled (not $client.certificate.enabled)) "why" "store.scylla.tls.clientCertificate.enabled needs a certificate") }}
{{- end }}
{{- include "message-webhook.checkSource" (dict "path" "keys" "source" $values.keys "needed" false "why" "") }}
{{- if and $values.gateway.http.enabled (not $values.gateway.http.parentRefs) }}
{{- fail "gateway.http.enabled needs gateway.http.parentRefs: a route without a Gateway is never served." }}
{{- end }}
{{- if and $values.gateway.grpc.enabled (not $values.gateway.grpc.parentRefs) }}
{{- fail "gateway.grpc.enabled needs gateway.grpc.parentRefs: a route without a Gateway is never served." }}
{{- end }}
{{- if and $values.ingress.enabled (not $values.ingress.hosts) }}
{{- fail "ingress.enabled needs ingress.hosts." }}
{{- end }}
{{- if and $values.certificate.enabled (or (not $values.certificate.dnsNames) (not $values.certificate.issuerRef)) }}
{{- fail "certificate.enabled needs certificate.dnsNames and certificate.issuerRef." }}
{{- end }}
{{- if and $values.metrics.serviceMonitor.enabled $values.metrics.podMonitor.enabled }}
{{- fail "metrics.serviceMonitor.enabled and metrics.podMonitor.enabled exclude each other: each pod would be read twice." }}
{{- end }}
{{- if and $values.keda.enabled (not $values.keda.triggers) }}
{{- fail "keda.enabled needs keda.triggers." }}
{{- end }}
{{- if and $values.autoscaling.enabled (not $values.autoscaling.metrics) (not $values.autoscaling.targetCPUUtilizationPercentage) }}
{{- fail "autoscaling.enabled needs autoscaling.targetCPUUtilizationPercentage or autoscaling.metrics." }}
{{- end }}
{{- range $name := list "autoscaling" "keda" }}
{{- $scaling := index $values $name }}
{{- if and $scaling.enabled (gt (int $scaling.minReplicas) (int $scaling.maxReplicas)) }}
{{- fail (printf "%s.minReplicas is more than %s.maxReplicas." $name $name) }}
{{- end }}
{{- end }}
{{- end }}

{{/* Refuses a Secret that has two sources, none though it is needed, or an ExternalSecret that reads nothing. */}}
{{- define "message-webhook.checkSource" -}}
{{- $external := .source.externalSecret -}}
{{- if and .source.existingSecret $external.enabled }}
{{- fail (printf "%s has more than one source: give one of existingSecret and externalSecret." .path) }}
{{- end }}
{{- if and .needed (not .source.existingSecret) (not $external.enabled) }}
{{- fail (printf "%s: set %s.existingSecret or %s.externalSecret." .why .path .path) }}
{{- end }}
{{- if and $external.enabled (or (not $external.secretStoreRef) (not $external.data)) }}
{{- fail (printf "%s.externalSecret.enabled needs its secretStoreRef and data." .path) }}
{{- end }}
{{- end }}
