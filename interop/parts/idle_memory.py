"""Resident memory of a gateway with many idle connections, each of which has sent one request (`grpc`, `http`) or nothing
(`silent`). Run by hand: TG=target/release/tracegate python3 interop/parts/idle_memory.py epoll grpc 9000

Answers the SETTINGS of a gRPC connection that is about to rest, as every client does. The ports are fixed.
"""
import sys, socket, struct, subprocess, select, time, tempfile, os, resource
resource.setrlimit(resource.RLIMIT_NOFILE,(20000,resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
runtime, kind, n = sys.argv[1], sys.argv[2], int(sys.argv[3])
cfg=f"""
receivers: {{otlp: {{protocols: {{grpc: {{endpoint: '127.0.0.1:14317'}}, http: {{endpoint: '127.0.0.1:14318'}}}}}}}}
exporters: {{nop: }}
service:
  engine: {{cores: 1, pin: false, runtime: {runtime}, admin: none}}
  telemetry: {{metrics: {{address: '127.0.0.1:18888'}}}}
  pipelines: {{traces: {{receivers: [otlp], exporters: [nop]}}}}
"""
f=tempfile.NamedTemporaryFile('w',suffix='.yaml',delete=False); f.write(cfg); f.close()
p=subprocess.Popen([os.environ['TG'],'--config',f.name],stderr=subprocess.PIPE,text=True)
for line in p.stderr:
    if 'Runs on' in line: break
import threading
threading.Thread(target=lambda:[None for _ in p.stderr],daemon=True).start()
time.sleep(1)
def rss():
    for l in open(f'/proc/{p.pid}/status'):
        if l.startswith('VmRSS'): return int(l.split()[1])*1024
def frame(k,fl=0,s=0,pl=b''): return struct.pack('>I',len(pl))[1:]+bytes([k,fl])+struct.pack('>I',s)+pl
def lit(n,v): return b'\x40'+bytes([len(n)])+n+bytes([len(v)])+v   # with indexing
def call(s): return frame(1,4,s,lit(b':method',b'POST')+lit(b':scheme',b'http')+lit(b':path',b'/opentelemetry.proto.collector.trace.v1.TraceService/Export')+lit(b'content-type',b'application/grpc')+lit(b'te',b'trailers')+lit(b'user-agent',b'OTel-OTLP-Exporter-Python/1.30.0 grpc-python/1.70'))+frame(0,1,s,bytes(5))
PRE=b'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'
def frames(b):
    while len(b)>=9:
        l=int.from_bytes(b[:3],'big')
        if len(b)<9+l: break
        yield b[3],b[4],b[9:9+l]; b=b[9+l:]
before=rss()
ep=select.epoll(); socks={}; answered=0; asked=0
def pump(t):
    global answered, asked
    end=time.time()+t
    while time.time()<end:
        for fd,_ in ep.poll(0.05):
            s=socks[fd]; d=s.recv(65536)
            if not d: raise SystemExit('closed')
            if kind=='http':
                answered+=d.count(b'HTTP/1.1 200'); continue
            for k,fl,pl in frames(d):
                if k==4 and not fl&1:
                    s.send(frame(4,1)); asked+= pl[:2]==b'\0\1'
                if k==1 and fl&1: answered+=1
        yield
for i in range(n):
    s=socket.create_connection(('127.0.0.1',14318 if kind=='http' else 14317)); socks[s.fileno()]=s; ep.register(s.fileno(),select.EPOLLIN)
    if kind=='grpc': s.send(PRE+frame(4)+call(1))
    elif kind=='http': s.send(b'POST /v1/traces HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n')
    if i%200==0:
        for _ in pump(0.05): pass
t0=time.time()
print('connected',rss()>>20,'MiB, before',before>>20,flush=True)
for t in range(6):
    for _ in pump(5): pass
    r=rss(); print(f'{5*(t+1)} s: {(r-before)/2**20:.1f} MiB, {(r-before)/n/1024:.2f} KiB each; answered {answered} asked {asked}',flush=True)
p.terminate(); p.wait()
