# Lets Envoy's requests end before Kubernetes sends SIGTERM, at which Envoy exits at once: `bash drain.sh ADMIN_PORT LONGEST_S`.
# The image has bash, but no HTTP client.
admin() { # METHOD PATH
  exec 3<>"/dev/tcp/127.0.0.1/$port" && printf '%s %s HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n' "$1" "$2" >&3 && cat <&3
}

active() { # requests in progress, of REST and gRPC clients, without streams that never end, such as the page's events
  local sum=0 name count
  while read -r name count; do
    case "$name" in
    http.rest.downstream_rq_active: | http.grpc.downstream_rq_active:) sum=$((sum + ${count%$'\r'})) ;;
    cluster.endless.upstream_rq_active:) sum=$((sum - ${count%$'\r'})) ;;
    esac
  done < <(admin GET '/stats?filter=stream_rq_active')
  echo "$sum"
}

port=$1
longest_s=$2
# Answers from now on ask clients to connect anew, for --drain-time-s; by then, no Service sends connections here.
admin POST '/drain_listeners?graceful&skip_exit' >/dev/null
sleep "${LINGER_S:-5}"
while [ "$SECONDS" -lt "$longest_s" ] && [ "$(active)" -gt 0 ]; do
  sleep 0.5
done
