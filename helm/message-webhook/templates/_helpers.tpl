{{- define "message-webhook.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "message-webhook.wholeName" -}}
{{- $name := default .Chart.Name .Values.nameOverride }}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride }}
{{- else if contains $name .Release.Name }}
{{- .Release.Name }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name }}
{{- end }}
{{- end }}

{{/*
The name of an object, with a hash of the whole where it has to be cut, or two long releases would make the same objects. Takes
a list: the context, what follows the release's name, and how long the name may be, for 63.
*/}}
{{- define "message-webhook.named" -}}
{{- $name := include "message-webhook.wholeName" (index . 0) -}}
{{- $suffix := index . 1 -}}
{{- $most := 63 -}}
{{- if gt (len .) 2 -}}
{{- $most = index . 2 -}}
{{- end -}}
{{- $most = int (sub $most (len $suffix)) -}}
{{- if gt (len $name) $most -}}
{{- $name = printf "%s-%s" ($name | trunc (int (sub $most 9)) | trimSuffix "-") ($name | sha256sum | trunc 8) -}}
{{- end -}}
{{ $name }}{{ $suffix }}
{{- end }}

{{- define "message-webhook.fullname" -}}
{{ include "message-webhook.named" (list . "") }}
{{- end }}

{{/* A StatefulSet's is in a label of its pods, with ten characters after it. */}}
{{- define "message-webhook.statefulSetName" -}}
{{ include "message-webhook.named" (list . "" 52) }}
{{- end }}

{{/* A ScyllaCluster's is in the names of its members' Services, with data centre, rack and number. */}}
{{- define "message-webhook.databaseName" -}}
{{- $longest := 0 -}}
{{- range .Values.scyllaCluster.racks -}}
{{- $longest = max $longest (len .name) -}}
{{- end -}}
{{ include "message-webhook.named" (list . "-scylla" (int (sub 58 (add $longest (len .Values.scyllaCluster.datacenter))))) }}
{{- end }}

{{- define "message-webhook.namespace" -}}
{{ default .Release.Namespace .Values.namespaceOverride }}
{{- end }}

{{- define "message-webhook.instanceLabels" -}}
app.kubernetes.io/name: {{ include "message-webhook.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{/* Of the server's pods alone: those of the migration and of tests must not get requests. */}}
{{- define "message-webhook.selectorLabels" -}}
{{ include "message-webhook.instanceLabels" . }}
app.kubernetes.io/component: server
{{- end }}

{{/* Labels of an object. Takes a list: the context, the component and further labels. */}}
{{- define "message-webhook.labels" -}}
{{- $ := index . 0 -}}
{{- $own := dict
    "helm.sh/chart" (printf "%s-%s" $.Chart.Name $.Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-")
    "app.kubernetes.io/version" ($.Chart.AppVersion | toString)
    "app.kubernetes.io/managed-by" $.Release.Service -}}
{{ toYaml (merge $own (include "message-webhook.podLabels" . | fromYaml)) }}
{{- end }}

{{/* Labels of a pod: without the chart's version, or every new chart would replace all pods. Takes a list as above. */}}
{{- define "message-webhook.podLabels" -}}
{{- $ := index . 0 -}}
{{- $own := dict "app.kubernetes.io/component" (index . 1) -}}
{{- $further := dict -}}
{{- if gt (len .) 2 -}}
{{- $further = index . 2 -}}
{{- end -}}
{{ toYaml (merge $own (include "message-webhook.instanceLabels" $ | fromYaml) $further $.Values.commonLabels) }}
{{- end }}

{{- define "message-webhook.image" -}}
{{- $image := .Values.image -}}
{{- $tag := default .Chart.AppVersion $image.tag -}}
{{- $repository := $image.repository -}}
{{- with default $image.registry .Values.global.imageRegistry -}}
{{- $repository = printf "%s/%s" (trimSuffix "/" .) $repository -}}
{{- end -}}
{{- if $image.digest -}}
{{ printf "%s:%s@%s" $repository $tag $image.digest }}
{{- else -}}
{{ printf "%s:%s" $repository $tag }}
{{- end -}}
{{- end }}

{{- define "message-webhook.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{ default (include "message-webhook.fullname" .) .Values.serviceAccount.name }}
{{- else -}}
{{ default "default" .Values.serviceAccount.name }}
{{- end -}}
{{- end }}

{{- define "message-webhook.isScylla" -}}
{{- if eq .Values.store.type "scylla" }}true{{ end -}}
{{- end }}

{{- define "message-webhook.isScaled" -}}
{{- if or .Values.autoscaling.enabled .Values.keda.enabled }}true{{ end -}}
{{- end }}

{{/* A value as the text of an environment variable. Numbers of values are floats, and large ones would be printed as 1e+06. */}}
{{- define "message-webhook.text" -}}
{{- if kindIs "slice" . -}}
{{ join "," . }}
{{- else if kindIs "float64" . -}}
{{ int64 . }}
{{- else -}}
{{ . }}
{{- end -}}
{{- end }}

{{- define "message-webhook.gracePeriod" -}}
{{ add (mul 2 (int .Values.drain.delaySeconds)) (int .Values.drain.finishSeconds) 10 }}
{{- end }}

{{/* Contact points, as the program takes them. */}}
{{- define "message-webhook.scyllaNodes" -}}
{{- if .Values.scyllaCluster.enabled -}}
{{ printf "%s-client:9042" (include "message-webhook.databaseName" .) }}
{{- else -}}
{{ join "," .Values.store.scylla.nodes }}
{{- end -}}
{{- end }}

{{- define "message-webhook.databaseMembers" -}}
{{- $members := 0 -}}
{{- range .Values.scyllaCluster.racks -}}
{{- $members = add $members (int .members) -}}
{{- end -}}
{{ $members }}
{{- end }}

{{/*
The settings that name a store and what it is made with, as a list of environment variables: the servers' and the migration's
alike. Takes a dict: context, auth (the user's).
*/}}
{{- define "message-webhook.storeSettings" -}}
{{- $ := .context -}}
{{- $scylla := $.Values.store.scylla -}}
- name: MESSAGE_WEBHOOK_STORE
  value: {{ $.Values.store.type | quote }}
{{- if include "message-webhook.isScylla" $ }}
- name: MESSAGE_WEBHOOK_SCYLLA_NODES
  value: {{ include "message-webhook.scyllaNodes" $ | quote }}
- name: MESSAGE_WEBHOOK_SCYLLA_KEYSPACE
  value: {{ $scylla.keyspace | quote }}
{{- with $scylla.datacenter }}
- name: MESSAGE_WEBHOOK_SCYLLA_DATACENTER
  value: {{ . | quote }}
{{- end }}
- name: MESSAGE_WEBHOOK_SCYLLA_REPLICATION_FACTOR
  value: {{ int $scylla.replicationFactor | quote }}
- name: MESSAGE_WEBHOOK_SCYLLA_CONSISTENCY
  value: {{ $scylla.consistency | quote }}
{{- with .auth.user }}
- name: MESSAGE_WEBHOOK_SCYLLA_USER
  value: {{ . | quote }}
- name: MESSAGE_WEBHOOK_SCYLLA_PASSWORD_FILE
  value: /etc/message-webhook/database/password
{{- end }}
{{- if $scylla.tls.enabled }}
- name: MESSAGE_WEBHOOK_SCYLLA_CA_FILE
  value: /etc/message-webhook/database-ca/ca.crt
{{- if $scylla.tls.clientCertificate.enabled }}
- name: MESSAGE_WEBHOOK_SCYLLA_CLIENT_CERT_FILE
  value: /etc/message-webhook/database-client/tls.crt
- name: MESSAGE_WEBHOOK_SCYLLA_CLIENT_KEY_FILE
  value: /etc/message-webhook/database-client/tls.key
{{- end }}
{{- end }}
{{- end }}
{{- range $name := keys $.Values.config | sortAlpha }}
- name: {{ printf "MESSAGE_WEBHOOK_%s" (upper $name) }}
  value: {{ include "message-webhook.text" (index $.Values.config $name) | quote }}
{{- end }}
{{- end }}

{{/* The migration's user, which is the servers' where none is named. */}}
{{- define "message-webhook.migrationAuth" -}}
{{- if .Values.migration.auth.user -}}
{{ toYaml .Values.migration.auth }}
{{- else -}}
{{ toYaml .Values.store.scylla.auth }}
{{- end -}}
{{- end }}

{{/*
The name of the Secret that a source of values names or has made. Takes a dict: context, source, name (the suffix of one that
is made), made (the suffix of the hook's own copies, which are there before the release's).
*/}}
{{- define "message-webhook.secretName" -}}
{{- if .source.existingSecret -}}
{{ .source.existingSecret }}
{{- else -}}
{{ include "message-webhook.named" (list .context (printf "-%s%s" .name (default "" .made))) }}
{{- end -}}
{{- end }}

{{/*
Volumes with what the database asks for. Takes a dict: context, auth, authName (what its Secret is called where it is made), made
as above, prefix (of their names).
*/}}
{{- define "message-webhook.databaseVolumes" -}}
{{- $ := .context -}}
{{- $tls := $.Values.store.scylla.tls -}}
{{- $prefix := default "" .prefix -}}
{{- if .auth.user }}
- name: {{ $prefix }}database
  secret:
    secretName: {{ include "message-webhook.secretName" (dict "context" $ "source" .auth "name" (default "database" .authName) "made" .made) }}
    defaultMode: 0440
    items:
      - key: {{ .auth.passwordKey }}
        path: password
{{- end }}
{{- if and $tls.enabled (not .authOnly) }}
- name: database-ca
  {{- if $tls.ca.existingConfigMap }}
  configMap:
    name: {{ $tls.ca.existingConfigMap }}
  {{- else }}
  secret:
    secretName: {{ include "message-webhook.secretName" (dict "context" $ "source" $tls.ca "name" "database-ca" "made" .made) }}
  {{- end }}
    defaultMode: 0440
    items:
      - key: {{ $tls.ca.key }}
        path: ca.crt
{{- if $tls.clientCertificate.enabled }}
- name: database-client
  secret:
    secretName: {{ include "message-webhook.secretName" (dict "context" $ "source" $tls.clientCertificate "name" "database-client" "made" .made) }}
    defaultMode: 0440
    items:
      - key: tls.crt
        path: tls.crt
      - key: tls.key
        path: tls.key
{{- end }}
{{- end }}
{{- end }}

{{/* Mounts of these volumes. Takes a dict: context, auth, prefix. */}}
{{- define "message-webhook.databaseMounts" -}}
{{- $ := .context -}}
{{- $tls := $.Values.store.scylla.tls -}}
{{- if .auth.user }}
- name: {{ default "" .prefix }}database
  mountPath: /etc/message-webhook/database
  readOnly: true
{{- end }}
{{- if $tls.enabled }}
- name: database-ca
  mountPath: /etc/message-webhook/database-ca
  readOnly: true
{{- if $tls.clientCertificate.enabled }}
- name: database-client
  mountPath: /etc/message-webhook/database-client
  readOnly: true
{{- end }}
{{- end }}
{{- end }}

{{/* Whether the server mounts a keys file. */}}
{{- define "message-webhook.hasKeys" -}}
{{- if or .Values.keys.existingSecret .Values.keys.externalSecret.enabled }}true{{ end -}}
{{- end }}

{{/* An ExternalSecret. Takes a dict: context, source, name, component, made, annotations. */}}
{{- define "message-webhook.externalSecret" -}}
{{- $ := .context -}}
{{- $external := .source.externalSecret -}}
{{- $name := include "message-webhook.secretName" (dict "context" $ "source" .source "name" .name "made" .made) -}}
apiVersion: external-secrets.io/v1
kind: ExternalSecret
metadata:
  name: {{ $name }}
  namespace: {{ include "message-webhook.namespace" $ }}
  labels:
    {{- include "message-webhook.labels" (list $ .component) | nindent 4 }}
  {{- with .annotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  refreshInterval: {{ include "message-webhook.goDuration" $external.refreshInterval }}
  secretStoreRef:
    {{- toYaml (merge (deepCopy $external.secretStoreRef) (dict "kind" "SecretStore")) | nindent 4 }}
  target:
    name: {{ $name }}
    creationPolicy: Owner
    deletionPolicy: Retain
  data:
    {{- include "message-webhook.externalData" $external.data | nindent 4 }}
{{- end }}

{{/* The Certificate that is shown to the database. Takes a dict: context, component, made, annotations. */}}
{{- define "message-webhook.clientCertificate" -}}
{{- $ := .context -}}
{{- $client := $.Values.store.scylla.tls.clientCertificate -}}
{{- $name := include "message-webhook.secretName" (dict "context" $ "source" $client "name" "database-client" "made" .made) -}}
apiVersion: cert-manager.io/v1
kind: Certificate
metadata:
  name: {{ $name }}
  namespace: {{ include "message-webhook.namespace" $ }}
  labels:
    {{- include "message-webhook.labels" (list $ .component) | nindent 4 }}
  {{- with .annotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  secretName: {{ $name }}
  commonName: {{ default (include "message-webhook.fullname" $) $client.certificate.commonName }}
  duration: {{ include "message-webhook.goDuration" $client.certificate.duration }}
  renewBefore: {{ include "message-webhook.goDuration" $client.certificate.renewBefore }}
  privateKey:
    algorithm: ECDSA
    size: 256
    encoding: PKCS8
    rotationPolicy: Always
  usages: [digital signature, client auth]
  issuerRef:
    {{- toYaml $client.certificate.issuerRef | nindent 4 }}
{{- end }}

{{/* What the Secret with the migration's password is called where it is made. */}}
{{- define "message-webhook.migrationAuthName" -}}
{{- ternary "database-admin" "database" (ne .Values.migration.auth.user "") -}}
{{- end }}

{{/*
What all pods have in common. Takes a list: the context, the name of the ServiceAccount, and where they are not the servers'
nodeSelector and tolerations.
*/}}
{{- define "message-webhook.podDefaults" -}}
{{- $ := index . 0 -}}
{{- $placement := $.Values -}}
{{- if gt (len .) 2 -}}
{{- $placement = index . 2 -}}
{{- end -}}
serviceAccountName: {{ index . 1 }}
automountServiceAccountToken: false
# Variables about Services would be of no use, and some begin as the settings do.
enableServiceLinks: false
{{- $pullSecrets := $.Values.imagePullSecrets }}
{{- range $.Values.global.imagePullSecrets }}
{{- $pullSecrets = append $pullSecrets (kindIs "map" . | ternary . (dict "name" .)) }}
{{- end }}
{{- with $pullSecrets }}
imagePullSecrets:
  {{- toYaml (uniq .) | nindent 2 }}
{{- end }}
securityContext:
  {{- toYaml $.Values.podSecurityContext | nindent 2 }}
{{- with $.Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with $.Values.runtimeClassName }}
runtimeClassName: {{ . }}
{{- end }}
{{- if not (kindIs "invalid" $.Values.hostUsers) }}
hostUsers: {{ $.Values.hostUsers }}
{{- end }}
{{- with $.Values.schedulerName }}
schedulerName: {{ . }}
{{- end }}
{{- with $.Values.dnsPolicy }}
dnsPolicy: {{ . }}
{{- end }}
{{- with $.Values.dnsConfig }}
dnsConfig:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $.Values.hostAliases }}
hostAliases:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with (kindIs "map" $placement.nodeSelector | ternary $placement.nodeSelector $.Values.nodeSelector) }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with (kindIs "slice" $placement.tolerations | ternary $placement.tolerations $.Values.tolerations) }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* All settings of the server, as a list of environment variables. */}}
{{- define "message-webhook.settings" -}}
- name: MESSAGE_WEBHOOK_HTTP_ADDR
  value: {{ printf "%s:8080" .Values.listenAddress | quote }}
- name: MESSAGE_WEBHOOK_GRPC_ADDR
  value: {{ printf "%s:9090" .Values.listenAddress | quote }}
- name: MESSAGE_WEBHOOK_ADMIN_ADDR
  value: {{ printf "%s:9464" .Values.listenAddress | quote }}
- name: MESSAGE_WEBHOOK_DRAIN_DELAY
  value: {{ printf "%ds" (int .Values.drain.delaySeconds) | quote }}
- name: MESSAGE_WEBHOOK_SHUTDOWN_DEADLINE
  # Of its deadline the program keeps 5 seconds for closing the store.
  value: {{ printf "%ds" (add (int .Values.drain.delaySeconds) (int .Values.drain.finishSeconds) 5) | quote }}
{{- if not (include "message-webhook.isScylla" .) }}
# Below the volume's root, which may have a directory lost+found and another owner.
- name: MESSAGE_WEBHOOK_DATA_DIR
  value: /var/lib/message-webhook/data
{{- end }}
{{- if include "message-webhook.hasKeys" . }}
- name: MESSAGE_WEBHOOK_KEYS_FILE
  value: /etc/message-webhook/keys/keys.toml
{{- end }}
{{- range $listener := list "http" "grpc" "admin" }}
{{- if (index $.Values.tls $listener).existingSecret }}
- name: {{ printf "MESSAGE_WEBHOOK_%s_TLS_CERT_FILE" (upper $listener) }}
  value: {{ printf "/etc/message-webhook/tls/%s/tls.crt" $listener }}
- name: {{ printf "MESSAGE_WEBHOOK_%s_TLS_KEY_FILE" (upper $listener) }}
  value: {{ printf "/etc/message-webhook/tls/%s/tls.key" $listener }}
{{- end }}
{{- end }}
{{- with .Values.tls.grpc.clientCa }}
{{- if .existingSecret }}
- name: MESSAGE_WEBHOOK_GRPC_TLS_CLIENT_CA_FILE
  value: /etc/message-webhook/tls/grpc-clients/ca.crt
- name: MESSAGE_WEBHOOK_GRPC_TLS_CLIENT_REQUIRED
  value: {{ .required | quote }}
{{- end }}
{{- end }}
{{ include "message-webhook.storeSettings" (dict "context" . "auth" .Values.store.scylla.auth) }}
{{- end }}

{{/* How a probe asks the admin port. Takes a list: the context and the path. */}}
{{- define "message-webhook.probe" -}}
{{- $probe := dict "path" (index . 1) "port" "admin" -}}
{{- if (index . 0).Values.tls.admin.existingSecret -}}
{{- $_ := set $probe "scheme" "HTTPS" -}}
{{- end -}}
{{ toYaml $probe }}
{{- end }}

{{/* What all Services have, and what one has besides. Takes a list: the context and the latter. */}}
{{- define "message-webhook.serviceSpec" -}}
{{- $service := (index . 0).Values.service -}}
{{- $own := dict -}}
{{- with $service.ipFamilyPolicy -}}
{{- $_ := set $own "ipFamilyPolicy" . -}}
{{- end -}}
{{- with $service.ipFamilies -}}
{{- $_ := set $own "ipFamilies" . -}}
{{- end -}}
{{- with merge (deepCopy (index . 1)) $own -}}
{{ toYaml . }}
{{- end -}}
{{- end }}

{{/* What the pods may reach. */}}
{{- define "message-webhook.egress" -}}
{{- $egress := .Values.networkPolicy.egress -}}
- ports:
    {{- range $egress.dnsPorts }}
    - {port: {{ int . }}, protocol: UDP}
    - {port: {{ int . }}, protocol: TCP}
    {{- end }}
{{- if include "message-webhook.isScylla" . }}
- ports:
    {{- range $egress.databasePorts }}
    - port: {{ int . }}
    {{- end }}
  {{- with $egress.databaseTo }}
  to:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}
{{- with $egress.rules }}
{{ toYaml . }}
{{- end }}
{{- end }}
