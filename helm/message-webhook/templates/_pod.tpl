{{/* The pod of the Deployment and of the StatefulSet. */}}
{{- define "message-webhook.pod" -}}
{{- $isScylla := include "message-webhook.isScylla" . -}}
{{- $auth := .Values.store.scylla.auth -}}
{{- $migrationAuth := include "message-webhook.migrationAuth" . | fromYaml -}}
{{- $migrates := and $isScylla (eq .Values.migration.mode "initContainer") -}}
metadata:
  annotations:
    # A change of settings replaces the pods. What is in Secrets is not known here; the server reads the keys file again by itself.
    checksum/config: {{ include "message-webhook.settings" . | sha256sum }}
    {{- with .Values.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  labels:
    {{- include "message-webhook.podLabels" (list . "server") | nindent 4 }}
    {{- with .Values.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
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
      env:
        {{- range $name, $value := include "message-webhook.storeSettings" (dict "context" . "auth" $migrationAuth) | fromYaml }}
        - name: {{ $name }}
          value: {{ $value | quote }}
        {{- end }}
      securityContext:
        {{- toYaml .Values.securityContext | nindent 8 }}
      resources:
        {{- toYaml .Values.migration.resources | nindent 8 }}
      {{- $prefix := ternary "migration-" "" (ne .Values.migration.auth.user "") }}
      {{- with include "message-webhook.databaseMounts" (dict "context" . "auth" $migrationAuth "prefix" $prefix) | trim }}
      volumeMounts:
        {{- . | nindent 8 }}
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
      envFrom:
        - configMapRef:
            name: {{ include "message-webhook.fullname" . }}
        {{- with .Values.extraEnvFrom }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      {{- if or .Values.telemetry.endpoint .Values.extraEnv }}
      env:
        {{- if .Values.telemetry.endpoint }}
        {{- include "message-webhook.telemetry" . | nindent 8 }}
        {{- end }}
        {{- with .Values.extraEnv }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      {{- end }}
      ports:
        - name: http
          containerPort: 8080
        - name: grpc
          containerPort: 9090
        - name: admin
          containerPort: 9464
      startupProbe:
        httpGet: {path: /livez, port: admin}
        {{- toYaml .Values.probes.startup | nindent 8 }}
      livenessProbe:
        httpGet: {path: /livez, port: admin}
        {{- toYaml .Values.probes.liveness | nindent 8 }}
      readinessProbe:
        httpGet: {path: /readyz, port: admin}
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
{{- end }}

{{- define "message-webhook.volumes" -}}
{{- if include "message-webhook.isScylla" . }}
{{- include "message-webhook.databaseVolumes" (dict "context" . "auth" .Values.store.scylla.auth) }}
{{- if and (eq .Values.migration.mode "initContainer") .Values.migration.auth.user }}
{{- include "message-webhook.databaseVolumes" (dict "context" . "auth" .Values.migration.auth "prefix" "migration-" "authOnly" true) }}
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
{{- end }}

{{/* Variables of OpenTelemetry. */}}
{{- define "message-webhook.telemetry" -}}
{{- $attributes := list "k8s.namespace.name=$(K8S_NAMESPACE)" "k8s.pod.name=$(K8S_POD)" "k8s.node.name=$(K8S_NODE)" "service.instance.id=$(K8S_POD)" -}}
{{- range $name, $value := .Values.telemetry.resourceAttributes }}
{{- $attributes = append $attributes (printf "%s=%v" $name $value) }}
{{- end -}}
- name: K8S_NAMESPACE
  valueFrom: {fieldRef: {fieldPath: metadata.namespace}}
- name: K8S_POD
  valueFrom: {fieldRef: {fieldPath: metadata.name}}
- name: K8S_NODE
  valueFrom: {fieldRef: {fieldPath: spec.nodeName}}
- name: OTEL_SERVICE_NAME
  value: {{ include "message-webhook.name" . }}
- name: OTEL_RESOURCE_ATTRIBUTES
  value: {{ join "," $attributes | quote }}
- name: OTEL_EXPORTER_OTLP_ENDPOINT
  value: {{ .Values.telemetry.endpoint | quote }}
- name: OTEL_EXPORTER_OTLP_PROTOCOL
  value: {{ .Values.telemetry.protocol | quote }}
{{- range list "traces" "metrics" "logs" }}
- name: {{ printf "OTEL_%s_EXPORTER" (upper .) }}
  value: {{ ternary "otlp" "none" (has . $.Values.telemetry.signals) }}
{{- end }}
- name: OTEL_TRACES_SAMPLER
  value: {{ .Values.telemetry.sampler | quote }}
- name: OTEL_TRACES_SAMPLER_ARG
  value: {{ .Values.telemetry.samplerArg | quote }}
{{- end }}
