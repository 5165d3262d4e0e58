{{/* The pod of the Deployment and of the StatefulSet. */}}
{{- define "message-webhook.pod" -}}
{{- $isScylla := include "message-webhook.isScylla" . -}}
{{- $auth := .Values.store.scylla.auth -}}
{{- $migrationAuth := include "message-webhook.migrationAuth" . | fromYaml -}}
{{- $migrates := and $isScylla (eq .Values.migration.mode "initContainer") -}}
metadata:
  {{- with .Values.podAnnotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  labels:
    {{- include "message-webhook.podLabels" (list . "server" .Values.podLabels) | nindent 4 }}
spec:
  {{- include "message-webhook.podDefaults" (list . (include "message-webhook.serviceAccountName" .)) | nindent 2 }}
  terminationGracePeriodSeconds: {{ include "message-webhook.gracePeriod" . }}
  {{- with .Values.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- if $isScylla }}
  topologySpreadConstraints:
    {{- if kindIs "slice" .Values.topologySpreadConstraints }}
    {{- range .Values.topologySpreadConstraints }}
    - {{ toYaml . | nindent 6 | trim }}
      {{- if not .labelSelector }}
      labelSelector:
        matchLabels:
          {{- include "message-webhook.selectorLabels" $ | nindent 10 }}
      {{- end }}
    {{- end }}
    {{- else }}
    {{- range list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
    - maxSkew: 1
      topologyKey: {{ . }}
      whenUnsatisfiable: ScheduleAnyway
      labelSelector:
        matchLabels:
          {{- include "message-webhook.selectorLabels" $ | nindent 10 }}
      # Only with its own like: the old pods of a rollout go.
      matchLabelKeys: [pod-template-hash]
    {{- end }}
    {{- end }}
  {{- end }}
  {{- if or $migrates .Values.extraInitContainers }}
  initContainers:
    {{- if $migrates }}
    - name: migrate
      image: {{ include "message-webhook.image" . }}
      imagePullPolicy: {{ .Values.image.pullPolicy }}
      args: [migrate]
      {{- with .Values.migration.extraEnvFrom }}
      envFrom:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      env:
        {{- $settings := include "message-webhook.storeSettings" (dict "context" . "auth" $migrationAuth) | fromYamlArray }}
        {{- include "message-webhook.env" (dict "own" $settings "extra" .Values.migration.extraEnv) | nindent 8 }}
      securityContext:
        {{- toYaml .Values.securityContext | nindent 8 }}
      resources:
        {{- toYaml .Values.migration.resources | nindent 8 }}
      {{- $prefix := ternary "migration-" "" (ne .Values.migration.auth.user "") }}
      {{- $mounts := include "message-webhook.databaseMounts" (dict "context" . "auth" $migrationAuth "prefix" $prefix) | trim }}
      {{- if or $mounts .Values.migration.extraVolumeMounts }}
      volumeMounts:
        {{- with $mounts }}
        {{- . | nindent 8 }}
        {{- end }}
        {{- with .Values.migration.extraVolumeMounts }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      {{- end }}
    {{- end }}
    {{- with .Values.extraInitContainers }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- end }}
  containers:
    - name: message-webhook
      image: {{ include "message-webhook.image" . }}
      imagePullPolicy: {{ .Values.image.pullPolicy }}
      args: [serve]
      {{- with .Values.extraEnvFrom }}
      envFrom:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      # In the pod itself and in no ConfigMap: a pod of before that starts anew has the settings of before, which it knows.
      env:
        {{- $own := concat (include "message-webhook.settings" . | fromYamlArray) (include "message-webhook.telemetry" . | fromYamlArray) }}
        {{- include "message-webhook.env" (dict "first" (include "message-webhook.identity" . | fromYamlArray) "own" $own "extra" .Values.extraEnv) | nindent 8 }}
      ports:
        - name: http
          containerPort: 8080
        - name: grpc
          containerPort: 9090
        - name: admin
          containerPort: 9464
      startupProbe:
        httpGet:
          {{- include "message-webhook.probe" (list . "/livez") | nindent 10 }}
        {{- toYaml .Values.probes.startup | nindent 8 }}
      livenessProbe:
        httpGet:
          {{- include "message-webhook.probe" (list . "/livez") | nindent 10 }}
        {{- toYaml .Values.probes.liveness | nindent 8 }}
      readinessProbe:
        httpGet:
          {{- include "message-webhook.probe" (list . "/readyz/grpc") | nindent 10 }}
        {{- toYaml .Values.probes.readiness | nindent 8 }}
      {{- if .Values.drain.delaySeconds }}
      lifecycle:
        preStop:
          # Requests come until all who send them have heard that the pod ends. Not a command: the image has no shell.
          sleep:
            seconds: {{ int .Values.drain.delaySeconds }}
      {{- end }}
      securityContext:
        {{- toYaml .Values.securityContext | nindent 8 }}
      resources:
        {{- toYaml .Values.resources | nindent 8 }}
      {{- $mounts := include "message-webhook.mounts" . | trim }}
      {{- if or $mounts .Values.extraVolumeMounts }}
      volumeMounts:
        {{- with $mounts }}
        {{- . | nindent 8 }}
        {{- end }}
        {{- with .Values.extraVolumeMounts }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      {{- end }}
    {{- with .Values.extraContainers }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- $volumes := include "message-webhook.volumes" . | trim }}
  {{- if or $volumes .Values.extraVolumes }}
  volumes:
    {{- with $volumes }}
    {{- . | nindent 4 }}
    {{- end }}
    {{- with .Values.extraVolumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- end }}
{{- end }}

{{- define "message-webhook.mounts" -}}
{{- if include "message-webhook.isScylla" . }}
{{- include "message-webhook.databaseMounts" (dict "context" . "auth" .Values.store.scylla.auth) }}
{{- else }}
- name: data
  mountPath: /var/lib/message-webhook
{{- end }}
{{- if include "message-webhook.hasKeys" . }}
# The directory and not the file alone (subPath), which would never change.
- name: keys
  mountPath: /etc/message-webhook/keys
  readOnly: true
{{- end }}
{{- range $listener := list "http" "grpc" "admin" }}
{{- if (index $.Values.tls $listener).existingSecret }}
- name: {{ $listener }}-tls
  mountPath: /etc/message-webhook/tls/{{ $listener }}
  readOnly: true
{{- end }}
{{- end }}
{{- if .Values.tls.grpc.clientCa.existingSecret }}
- name: grpc-client-ca
  mountPath: /etc/message-webhook/tls/grpc-clients
  readOnly: true
{{- end }}
{{- if and .Values.telemetry.endpoint .Values.telemetry.ca.existingSecret }}
- name: telemetry-ca
  mountPath: /etc/message-webhook/telemetry
  readOnly: true
{{- end }}
{{- end }}

{{- define "message-webhook.volumes" -}}
{{- if include "message-webhook.isScylla" . }}
{{- include "message-webhook.databaseVolumes" (dict "context" . "auth" .Values.store.scylla.auth) }}
{{- if and (eq .Values.migration.mode "initContainer") .Values.migration.auth.user }}
{{- include "message-webhook.databaseVolumes" (dict "context" . "auth" .Values.migration.auth "authName" "database-admin" "prefix" "migration-" "authOnly" true) }}
{{- end }}
{{- else if .Values.store.embedded.persistence.existingClaim }}
- name: data
  persistentVolumeClaim:
    claimName: {{ .Values.store.embedded.persistence.existingClaim }}
{{- end }}
{{- if include "message-webhook.hasKeys" . }}
- name: keys
  secret:
    secretName: {{ include "message-webhook.secretName" (dict "context" . "source" .Values.keys "name" "keys") }}
    defaultMode: 0440
    items:
      - key: {{ .Values.keys.key }}
        path: keys.toml
{{- end }}
{{- range $listener := list "http" "grpc" "admin" }}
{{- with (index $.Values.tls $listener).existingSecret }}
- name: {{ $listener }}-tls
  secret:
    secretName: {{ . }}
    defaultMode: 0440
    items:
      - {key: tls.crt, path: tls.crt}
      - {key: tls.key, path: tls.key}
{{- end }}
{{- end }}
{{- with .Values.tls.grpc.clientCa }}
{{- if .existingSecret }}
- name: grpc-client-ca
  secret:
    secretName: {{ .existingSecret }}
    defaultMode: 0440
    items:
      - {key: {{ .key }}, path: ca.crt}
{{- end }}
{{- end }}
{{- if and .Values.telemetry.endpoint .Values.telemetry.ca.existingSecret }}
- name: telemetry-ca
  secret:
    secretName: {{ .Values.telemetry.ca.existingSecret }}
    defaultMode: 0440
    items:
      - {key: {{ .Values.telemetry.ca.key }}, path: ca.crt}
{{- end }}
{{- end }}

{{/* Who and where the pod is, for what follows to refer to. */}}
{{- define "message-webhook.identity" -}}
{{- if .Values.telemetry.endpoint -}}
- name: K8S_NAMESPACE
  valueFrom: {fieldRef: {fieldPath: metadata.namespace}}
- name: K8S_POD
  valueFrom: {fieldRef: {fieldPath: metadata.name}}
- name: K8S_NODE
  valueFrom: {fieldRef: {fieldPath: spec.nodeName}}
{{- end }}
{{- end }}

{{/* Variables of OpenTelemetry. */}}
{{- define "message-webhook.telemetry" -}}
{{- if .Values.telemetry.endpoint -}}
{{- $attributes := list
    "k8s.namespace.name=$(K8S_NAMESPACE)"
    "k8s.pod.name=$(K8S_POD)"
    "k8s.node.name=$(K8S_NODE)"
    "k8s.container.name=message-webhook"
    "service.namespace=$(K8S_NAMESPACE)"
    "service.instance.id=$(K8S_NAMESPACE).$(K8S_POD).message-webhook" -}}
{{- range $name := keys .Values.telemetry.resourceAttributes -}}
{{- $kept := list -}}
{{- range $attributes -}}
{{- if not (hasPrefix (printf "%s=" $name) .) -}}
{{- $kept = append $kept . -}}
{{- end -}}
{{- end -}}
{{- $attributes = $kept -}}
{{- end -}}
{{- range $name, $value := .Values.telemetry.resourceAttributes }}
{{- $attributes = append $attributes (printf "%s=%v" $name $value) }}
{{- end -}}
- name: OTEL_SERVICE_NAME
  value: {{ include "message-webhook.name" . }}
- name: OTEL_RESOURCE_ATTRIBUTES
  value: {{ join "," $attributes | quote }}
- name: OTEL_EXPORTER_OTLP_ENDPOINT
  value: {{ .Values.telemetry.endpoint | quote }}
- name: OTEL_EXPORTER_OTLP_PROTOCOL
  value: {{ .Values.telemetry.protocol | quote }}
{{- if ne .Values.telemetry.compression "none" }}
- name: OTEL_EXPORTER_OTLP_COMPRESSION
  value: {{ .Values.telemetry.compression }}
{{- end }}
{{- if .Values.telemetry.ca.existingSecret }}
- name: OTEL_EXPORTER_OTLP_CERTIFICATE
  value: /etc/message-webhook/telemetry/ca.crt
{{- end }}
{{- range list "traces" "metrics" "logs" }}
- name: {{ printf "OTEL_%s_EXPORTER" (upper .) }}
  value: {{ ternary "otlp" "none" (has . $.Values.telemetry.signals) }}
{{- end }}
- name: OTEL_TRACES_SAMPLER
  value: {{ .Values.telemetry.sampler | quote }}
- name: OTEL_TRACES_SAMPLER_ARG
  value: {{ .Values.telemetry.samplerArg | quote }}
{{- end }}
{{- end }}

{{/*
Environment variables of a container, each name once: what is extra stands in place of ours of the same name, and before the
rest of ours, which may refer to it. Takes a dict: first, own, extra.
*/}}
{{- define "message-webhook.env" -}}
{{- $extra := dict -}}
{{- range .extra -}}
{{- $_ := set $extra .name true -}}
{{- end -}}
{{- $entries := list -}}
{{- range .first -}}
{{- if not (hasKey $extra .name) -}}
{{- $entries = append $entries . -}}
{{- end -}}
{{- end -}}
{{- $entries = concat $entries .extra -}}
{{- range .own -}}
{{- if not (hasKey $extra .name) -}}
{{- $entries = append $entries . -}}
{{- end -}}
{{- end -}}
{{ toYaml $entries }}
{{- end }}
