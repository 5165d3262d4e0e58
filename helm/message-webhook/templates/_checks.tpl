{{/*
What the schema cannot refuse, or not with a reason. Included by the one template that is always rendered.
*/}}
{{- define "message-webhook.checks" -}}
{{- $values := .Values -}}
{{- $scylla := $values.store.scylla -}}
{{- $isScylla := include "message-webhook.isScylla" . -}}
{{- if not (regexMatch "^[a-z]" (include "message-webhook.wholeName" .)) }}
{{- fail (printf "'%s' does not begin with a letter, as names of Services must. Set fullnameOverride." (include "message-webhook.wholeName" .)) }}
{{- end }}
{{- range $path, $labels := dict "commonLabels" $values.commonLabels "podLabels" $values.podLabels "migration.podLabels" $values.migration.podLabels }}
{{- range list "app.kubernetes.io/name" "app.kubernetes.io/instance" "app.kubernetes.io/component" }}
{{- if hasKey $labels . }}
{{- fail (printf "%s has '%s', by which the chart finds its pods. Set nameOverride, or use another label." $path .) }}
{{- end }}
{{- end }}
{{- end }}
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
{{- $members := include "message-webhook.databaseMembers" . | int }}
{{- if and $values.scyllaCluster.enabled (gt (int $scylla.replicationFactor) $members) }}
{{- fail (printf "store.scylla.replicationFactor is %d and scyllaCluster.racks have %d members: no node could hold the last copy. Give the racks more members, or ask for fewer copies." (int $scylla.replicationFactor) $members) }}
{{- end }}
{{- include "message-webhook.checkSource" (dict "path" "store.scylla.auth" "source" $scylla.auth "needed" $scylla.auth.user "why" "store.scylla.auth.user needs a password") }}
{{- $admin := $values.migration.auth }}
{{- include "message-webhook.checkSource" (dict "path" "migration.auth" "source" $admin "needed" $admin.user "why" "migration.auth.user needs a password") }}
{{- if and (or $admin.existingSecret $admin.externalSecret.enabled) (not $admin.user) }}
{{- fail "migration.auth.existingSecret or migration.auth.externalSecret is given and no user: set migration.auth.user." }}
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
{{- include "message-webhook.checkConfig" . }}
{{- include "message-webhook.checkSource" (dict "path" "keys" "source" $values.keys "needed" false "why" "") }}
{{- if and $values.gateway.http.enabled (not $values.gateway.http.parentRefs) }}
{{- fail "gateway.http.enabled needs gateway.http.parentRefs: a route without a Gateway is never served." }}
{{- end }}
{{- if and $values.gateway.grpc.enabled (not $values.gateway.grpc.parentRefs) }}
{{- fail "gateway.grpc.enabled needs gateway.grpc.parentRefs: a route without a Gateway is never served." }}
{{- end }}
{{- $balancer := $values.loadBalancer.kind }}
{{- if and (has $balancer (list "gke-ingress" "aws-alb")) (not $values.ingress.enabled) }}
{{- fail (printf "loadBalancer.kind %s is of no use without ingress.enabled, which it is made of." $balancer) }}
{{- end }}
{{- if and (eq $balancer "gke-gateway") (not $values.gateway.http.enabled) (not $values.gateway.grpc.enabled) }}
{{- fail "loadBalancer.kind gke-gateway is of no use without gateway.http.enabled or gateway.grpc.enabled." }}
{{- end }}
{{- if and (eq $balancer "aws-nlb") (ne $values.service.http.type "LoadBalancer") }}
{{- fail "loadBalancer.kind aws-nlb needs service.http.type LoadBalancer." }}
{{- end }}
{{- if and (hasPrefix "aws-" $balancer) (ne (int $values.loadBalancer.healthCheck.port) 8080) $values.networkPolicy.enabled (not $values.loadBalancer.probeRanges) }}
{{- fail (printf "loadBalancer.kind %s needs loadBalancer.probeRanges, the subnets of the load balancer: networkPolicy closes the port of the health checks to all others." $balancer) }}
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
{{- range $name := list "serviceMonitor" "podMonitor" }}
{{- $monitor := index $values.metrics $name }}
{{- if and $monitor.enabled $values.tls.admin.existingSecret (not $monitor.tlsConfig) }}
{{- fail (printf "tls.admin.existingSecret needs metrics.%s.tlsConfig, e.g. {ca: {secret: {name: metrics-ca, key: ca.crt}}, serverName: message-webhook-admin}: Prometheus calls pods by their addresses, which no certificate has." $name) }}
{{- end }}
{{- end }}
{{- if and $values.tls.grpc.clientCa.existingSecret (not $values.tls.grpc.existingSecret) }}
{{- fail "tls.grpc.clientCa.existingSecret needs tls.grpc.existingSecret: without TLS nobody shows a certificate." }}
{{- end }}
{{- if and $values.tls.grpc.clientCa.required (not $values.tls.grpc.clientCa.existingSecret) }}
{{- fail "tls.grpc.clientCa.required needs tls.grpc.clientCa.existingSecret, or nobody could connect." }}
{{- end }}
{{- if and $values.tls.grpc.clientCa.required $values.tests.existingSecret }}
{{- fail "tests.existingSecret and tls.grpc.clientCa.required exclude each other: the test has no certificate. Leave one out." }}
{{- end }}
{{- if and $values.tests.existingSecret (not $values.tests.ca.existingSecret) (or $values.tls.http.existingSecret $values.tls.grpc.existingSecret) }}
{{- fail "tests.existingSecret needs tests.ca.existingSecret where tls.http or tls.grpc is given: the test trusts nobody by itself." }}
{{- end }}
{{- if and $values.telemetry.ca.existingSecret (not (hasPrefix "https://" $values.telemetry.endpoint)) }}
{{- fail "telemetry.ca.existingSecret needs a telemetry.endpoint of https://: nobody shows a certificate otherwise." }}
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

{{/* Milliseconds of a duration as the schema lets it be. */}}
{{- define "message-webhook.milliseconds" -}}
{{- $factors := dict "ms" 1 "s" 1000 "m" 60000 "h" 3600000 "d" 86400000 -}}
{{- $sum := 0 -}}
{{- range regexFindAll "[0-9]+[a-z]+" . -1 -}}
{{- $sum = add $sum (mul (regexFind "[0-9]+" . | int64) (index $factors (regexFind "[a-z]+" .))) -}}
{{- end -}}
{{ $sum }}
{{- end }}

{{/* Bytes of a size as the schema lets it be. */}}
{{- define "message-webhook.bytes" -}}
{{- $text := include "message-webhook.text" . -}}
{{- $powers := dict "" 0 "k" 1 "m" 2 "g" 3 "t" 4 -}}
{{- $base := ternary 1024 1000 (contains "i" $text) -}}
{{- $value := regexFind "[0-9.]+" $text | float64 -}}
{{- range until (int (index $powers (regexFind "[kKMGT]" $text | lower))) -}}
{{- $value = mulf $value $base -}}
{{- end -}}
{{ int64 $value }}
{{- end }}

{{/* Refuses settings in `config` that the program would refuse: its pods would not start. */}}
{{- define "message-webhook.checkConfig" -}}
{{- $config := .Values.config -}}
{{- $isScylla := include "message-webhook.isScylla" . -}}
{{- $day := 86400000 -}}
{{- $settings := (.Files.Get "settings.schema.json" | fromJson).properties -}}
{{- range $name, $value := $config }}
{{- $setting := index $settings $name }}
{{- if hasKey $setting "x-minimum" }}
{{- $least := index $setting "x-minimum" }}
{{- $most := index $setting "x-maximum" }}
{{- $measure := ternary "message-webhook.bytes" "message-webhook.milliseconds" (hasSuffix "B" $least) }}
{{- $given := include $measure $value | int64 }}
{{- if or (lt $given (include $measure $least | int64)) (gt $given (include $measure $most | int64)) }}
{{- fail (printf "config.%s is %s and must be %s to %s." $name (include "message-webhook.text" $value) $least $most) }}
{{- end }}
{{- end }}
{{- end }}
{{- $retention := include "message-webhook.milliseconds" (default "30d" $config.retention) | int64 }}
{{- if and (lt $retention (mul 8 $day | int64)) (not $config.allow_short_retention) }}
{{- fail (printf "config.retention is %s: below 8 days a message that a bridge sends again after 7 days may be accepted twice. Keep at least 8d, or set config.allow_short_retention too." $config.retention) }}
{{- end }}
{{- if and $isScylla (gt $retention (mul 3650 $day | int64)) }}
{{- fail (printf "config.retention is %s and must be at most 3650d with store.type scylla." $config.retention) }}
{{- end }}
{{- if gt (int (default 8 $config.scylla_slots)) (int (default 64 $config.scylla_shards)) }}
{{- fail "config.scylla_slots must be at most config.scylla_shards." }}
{{- end }}
{{- $window := include "message-webhook.milliseconds" (default "10s" $config.scylla_window) | int64 }}
{{- if ge (include "message-webhook.milliseconds" (default "3s" $config.scylla_reference_window) | int64) $window }}
{{- fail "config.scylla_reference_window must be shorter than config.scylla_window." }}
{{- end }}
{{- range (kindIs "slice" $config.cors_origins | ternary $config.cors_origins (splitList "," (toString (default "" $config.cors_origins)))) }}
{{- if hasPrefix "file://" (trim .) }}
{{- fail (printf "config.cors_origins: '%s' is no origin." (trim .)) }}
{{- end }}
{{- if regexMatch "^((http|ws)://.*:80|(https|wss)://.*:443|ftp://.*:21)$" (trim .) }}
{{- fail (printf "config.cors_origins: '%s' is not what browsers send, which leave the usual port out." (trim .)) }}
{{- end }}
{{- end }}
{{- range $path, $variables := dict "extraEnv" .Values.extraEnv "migration.extraEnv" .Values.migration.extraEnv }}
{{- $seen := dict }}
{{- range $variables }}
{{- if hasKey $seen .name }}
{{- fail (printf "%s has '%s' twice." $path .name) }}
{{- end }}
{{- $_ := set $seen .name true }}
{{- end }}
{{- end }}
{{- end }}
