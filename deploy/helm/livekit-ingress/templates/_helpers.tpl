{{- /* Names, labels and the configuration, for the other templates. */ -}}

{{- define "livekit-ingress.name" -}}
{{- $name := .Release.Name -}}
{{- if not (contains .Chart.Name $name) -}}{{- $name = printf "%s-%s" $name .Chart.Name -}}{{- end -}}
{{- $name | trunc 63 | trimSuffix "-" -}}
{{- end }}

{{- define "livekit-ingress.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "livekit-ingress.labels" -}}
{{ include "livekit-ingress.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- /* The configuration with what follows from other values. */ -}}
{{- define "livekit-ingress.config" -}}
{{- $config := deepCopy .Values.config -}}
{{- $_ := set $config "drain_timeout" (printf "%ds" (int .Values.drainSeconds)) -}}
{{- if .Values.rtmpsSecretName -}}
{{- $_ := set $config "rtmps_port" (int .Values.rtmpsPort) -}}
{{- $_ := set $config "rtmps_cert_file" "/etc/ingress/rtmps/tls.crt" -}}
{{- $_ := set $config "rtmps_key_file" "/etc/ingress/rtmps/tls.key" -}}
{{- end -}}
{{- if .Values.whipTlsSecretName -}}
{{- $_ := set $config "whip_tls_port" (int .Values.whipTlsPort) -}}
{{- $_ := set $config "whip_tls_cert_file" "/etc/ingress/whip/tls.crt" -}}
{{- $_ := set $config "whip_tls_key_file" "/etc/ingress/whip/tls.key" -}}
{{- end -}}
{{- toYaml $config -}}
{{- end }}

{{- /* The open TCP ports, as a YAML list of name and port. Names are those of the configuration's keys. */ -}}
{{- define "livekit-ingress.ports" -}}
{{- $config := include "livekit-ingress.config" . | fromYaml -}}
{{- range $name, $key := dict "rtmp" "rtmp_port" "rtmps" "rtmps_port" "whip" "whip_port" "whip-tls" "whip_tls_port" }}
{{- $port := int (get $config $key) }}
{{- if gt $port 0 }}
- {name: {{ $name }}, port: {{ $port }}}
{{- end }}
{{- end }}
{{- end }}
