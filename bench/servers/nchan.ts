import { existsSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { freePort } from '../../test/support/free-port.ts'
import type { Stage } from '../stage.ts'
import type { Bridge } from './bridge.ts'

const NGINX = '/usr/sbin/nginx'
const MODULE = '/usr/lib/nginx/modules/ngx_nchan_module.so'

export const hasNchan = existsSync(NGINX) && existsSync(MODULE)

/** Starts nginx with nchan: what `POST /pub/ID` publishes, `GET /sub/ID` streams as server-sent events. */
export async function startNchan(stage: Stage): Promise<Bridge> {
  const port = await freePort()
  const directory = stage.directory()
  const file = join(directory, 'nginx.conf')
  writeFileSync(
    file,
    `load_module ${MODULE};
daemon off;
${process.getuid?.() === 0 ? 'user root;' : ''}
worker_processes 1;
worker_rlimit_nofile 16384;
pid ${directory}/nginx.pid;
error_log stderr error;
events { worker_connections 12000; }
http {
  access_log off;
  keepalive_requests 100000000;
  nchan_max_reserved_memory 512M;
  client_body_temp_path ${directory}/body; proxy_temp_path ${directory}/proxy; fastcgi_temp_path ${directory}/fastcgi;
  uwsgi_temp_path ${directory}/uwsgi; scgi_temp_path ${directory}/scgi;
  server {
    listen 127.0.0.1:${port} backlog=4096;
    location ~ /pub/(.+)$ {
      nchan_publisher; nchan_channel_id $1; nchan_message_buffer_length 4096; nchan_message_timeout 60s;
    }
    location ~ /sub/(.+)$ { nchan_subscriber eventsource; nchan_channel_id $1; nchan_subscriber_first_message newest; }
  }
}
`,
  )
  const { pid } = await stage.program(NGINX, ['-p', directory, '-c', file], port)
  return { port, pid: pid! }
}
