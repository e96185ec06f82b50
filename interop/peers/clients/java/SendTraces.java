/*
 * Sends spans with the OpenTelemetry SDK for Java to a sink, which shows what was sent, and to the gateway. What it sends
 * is told in parts/clients.py; nothing here knows how the SDK encodes it.
 *
 *   java -cp 'jars/*:classes' SendTraces PROTOCOL COMPRESSION LOAD SINK GATEWAY
 *
 * PROTOCOL is grpc or http/protobuf (the SDK's exporters on OkHttp), grpc-java (a channel of grpc-java on Netty) or
 * http/json (the JDK's client); COMPRESSION none or gzip, LOAD small or large, SINK and GATEWAY base URLs, `-` leaves the
 * sink out. The SDK has no exporter of its own for the last two protocols, so they send what its marshaler writes; the
 * sink then gets grpc and http/protobuf. Prints what became of it as one line of JSON.
 */

import static io.opentelemetry.api.common.AttributeKey.booleanArrayKey;
import static io.opentelemetry.api.common.AttributeKey.booleanKey;
import static io.opentelemetry.api.common.AttributeKey.doubleArrayKey;
import static io.opentelemetry.api.common.AttributeKey.doubleKey;
import static io.opentelemetry.api.common.AttributeKey.longArrayKey;
import static io.opentelemetry.api.common.AttributeKey.longKey;
import static io.opentelemetry.api.common.AttributeKey.stringArrayKey;
import static io.opentelemetry.api.common.AttributeKey.stringKey;
import static io.opentelemetry.api.common.AttributeKey.valueKey;

import io.grpc.CallOptions;
import io.grpc.ManagedChannel;
import io.grpc.MethodDescriptor;
import io.grpc.MethodDescriptor.Marshaller;
import io.grpc.MethodDescriptor.MethodType;
import io.grpc.netty.shaded.io.grpc.netty.NettyChannelBuilder;
import io.grpc.stub.ClientCalls;
import io.opentelemetry.api.common.Attributes;
import io.opentelemetry.api.common.KeyValue;
import io.opentelemetry.api.common.Value;
import io.opentelemetry.api.trace.Span;
import io.opentelemetry.api.trace.SpanContext;
import io.opentelemetry.api.trace.SpanKind;
import io.opentelemetry.api.trace.StatusCode;
import io.opentelemetry.api.trace.TraceFlags;
import io.opentelemetry.api.trace.TraceState;
import io.opentelemetry.api.trace.Tracer;
import io.opentelemetry.context.Context;
import io.opentelemetry.exporter.internal.otlp.traces.TraceRequestMarshaler;
import io.opentelemetry.exporter.otlp.http.trace.OtlpHttpSpanExporter;
import io.opentelemetry.exporter.otlp.trace.OtlpGrpcSpanExporter;
import io.opentelemetry.sdk.common.CompletableResultCode;
import io.opentelemetry.sdk.common.export.RetryPolicy;
import io.opentelemetry.sdk.resources.Resource;
import io.opentelemetry.sdk.trace.SdkTracerProvider;
import io.opentelemetry.sdk.trace.SdkTracerProviderBuilder;
import io.opentelemetry.sdk.trace.SpanLimits;
import io.opentelemetry.sdk.trace.data.SpanData;
import io.opentelemetry.sdk.trace.export.BatchSpanProcessor;
import io.opentelemetry.sdk.trace.export.SpanExporter;
import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.Queue;
import java.util.Random;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.TimeUnit;
import java.util.logging.Level;
import java.util.logging.Logger;
import java.util.stream.Collectors;
import java.util.zip.GZIPOutputStream;

public final class SendTraces {
    private static final String SCHEMA_URL = "https://opentelemetry.io/schemas/1.27.0";
    private static final int ORDINARY_SPANS = 200;
    private static final int LARGE_SPANS = 2800;
    private static final int PADDING_BYTES = 500;
    private static final Duration EXPORT_TIMEOUT = Duration.ofSeconds(60);
    /** Waits are drawn from zero up, so the first bound is wide enough for a gateway that needs a while. */
    private static final Duration FIRST_BACKOFF = Duration.ofSeconds(2);

    private final List<SpanExporter> exporters = new ArrayList<>();
    private final List<SdkTracerProvider> providers = new ArrayList<>();
    /** The error of each export that failed. */
    private final Queue<String> failed = new ConcurrentLinkedQueue<>();

    public static void main(String[] arguments) throws IOException {
        if (arguments.length != 5) {
            throw new IllegalArgumentException("usage: SendTraces PROTOCOL COMPRESSION LOAD SINK GATEWAY");
        }
        // Failures are reported below; the SDK's own words about them go nowhere.
        Logger.getLogger("").setLevel(Level.OFF);
        String protocol = arguments[0];
        String compression = arguments[1];
        SendTraces client = new SendTraces();
        if (!arguments[3].equals("-")) {
            String plainer = Map.of("http/json", "http/protobuf", "grpc-java", "grpc").getOrDefault(protocol, protocol);
            client.addExporter(plainer, compression, arguments[3]);
        }
        client.addExporter(protocol, compression, arguments[4]);
        int spans = arguments[2].equals("large") ? client.sendLarge() : client.sendSmall();
        client.end();
        String failed = client.failed.stream().map(SendTraces::quoted).collect(Collectors.joining(", "));
        System.out.println("{\"spans\": " + spans + ", \"failed\": [" + failed + "]}");
        // Pools of the clients must not keep a finished run alive.
        System.exit(0);
    }

    private void addExporter(String protocol, String compression, String baseUrl) throws IOException {
        RetryPolicy retry = RetryPolicy.builder().setMaxAttempts(5).setInitialBackoff(FIRST_BACKOFF)
            .setMaxBackoff(Duration.ofSeconds(30)).setBackoffMultiplier(2).build();
        SpanExporter exporter = switch (protocol) {
            case "grpc" -> OtlpGrpcSpanExporter.builder().setEndpoint(baseUrl).setCompression(compression)
                .setTimeout(EXPORT_TIMEOUT).setRetryPolicy(retry).build();
            case "http/protobuf" -> OtlpHttpSpanExporter.builder().setEndpoint(baseUrl + "/v1/traces")
                .setCompression(compression).setTimeout(EXPORT_TIMEOUT).setRetryPolicy(retry).build();
            case "grpc-java" -> new Sending(new GrpcJava(baseUrl, compression));
            case "http/json" -> new Sending(new JsonOverHttp(baseUrl, compression));
            default -> throw new IllegalArgumentException("protocol " + protocol);
        };
        exporters.add(new Reporting(exporter, failed));
    }

    private Tracer tracer(String service, int batch) {
        Attributes attributes = Attributes.builder()
            .put("service.name", service)
            .put("service.version", "1.2.3")
            .put("host.cpu.count", 8L)
            .put("host.load", 0.25)
            .put("host.virtual", true)
            .put("process.command_args", "serve", "--port", "8080")
            .build();
        SdkTracerProviderBuilder builder = SdkTracerProvider.builder()
            .setResource(Resource.create(attributes, SCHEMA_URL))
            .setSpanLimits(SpanLimits.builder().setMaxNumberOfAttributes(32).setMaxNumberOfEvents(4).setMaxNumberOfLinks(4)
                .build());
        for (SpanExporter exporter : exporters) {
            // Batches are cut by their size alone: the delay is longer than any run.
            builder.addSpanProcessor(BatchSpanProcessor.builder(exporter).setMaxQueueSize(8192)
                .setMaxExportBatchSize(batch).setScheduleDelay(Duration.ofMinutes(5)).setExporterTimeout(EXPORT_TIMEOUT)
                .build());
        }
        SdkTracerProvider provider = builder.build();
        providers.add(provider);
        return provider.tracerBuilder(service + ".library").setInstrumentationVersion("0.9.1").setSchemaUrl(SCHEMA_URL)
            .build();
    }

    /** Everything has been sent, or has failed. */
    private void end() {
        // They share their exporters, and the first shutdown ends those for all.
        for (SdkTracerProvider provider : providers) {
            provider.forceFlush().join(120, TimeUnit.SECONDS);
        }
        for (SdkTracerProvider provider : providers) {
            provider.shutdown().join(20, TimeUnit.SECONDS);
        }
    }

    /** One trace over all services with everything a span can carry, and many ordinary spans. */
    private int sendSmall() {
        Tracer frontend = tracer("shop-frontend", 5);
        Tracer cart = tracer("shop-cart", 5);
        Tracer payment = tracer("shop-payment", 5);
        TraceState state = TraceState.builder().put("other", "x").put("vendor", "value").build();
        SpanContext elsewhere = SpanContext.createFromRemoteParent("abcdef0123456789abcdef0123456789", "1122334455667788",
            TraceFlags.getSampled(), state);
        Context remote = Context.root().with(Span.wrap(elsewhere));
        Span root = frontend.spanBuilder("GET /cart").setParent(remote).setSpanKind(SpanKind.SERVER)
            .addLink(elsewhere, Attributes.of(stringKey("why"), "retry", longKey("attempt"), 2L))
            .addLink(elsewhere).setAllAttributes(everyType()).startSpan();
        Context inside = remote.with(root);
        int spans = 1;
        for (SpanKind kind : SpanKind.values()) {
            Span step = cart.spanBuilder("step " + kind).setParent(inside).setSpanKind(kind).startSpan();
            step.addEvent("found", Attributes.of(longKey("items"), (long) kind.ordinal(), stringArrayKey("names"),
                List.of("x", "y")));
            step.setStatus(StatusCode.OK);
            step.end();
            spans++;
        }
        Span charge = payment.spanBuilder("charge").setParent(inside).setSpanKind(SpanKind.CLIENT).startSpan();
        charge.recordException(new IllegalStateException("card declined"));
        for (int number = 0; number < 6; number++) {
            // Three more than the limit allows beside the error: the dropped counts travel too.
            charge.addEvent("try " + number);
        }
        for (int number = 0; number < 40; number++) {
            charge.setAttribute("attribute." + number, number);
        }
        charge.setStatus(StatusCode.ERROR, "card declined: über limit");
        charge.end();
        root.end();
        spans++;
        List<Tracer> tracers = List.of(frontend, cart, payment);
        for (int number = 0; number < ORDINARY_SPANS; number++) {
            tracers.get(number % 3).spanBuilder("ordinary " + number).setNoParent().setAttribute("number", number)
                .startSpan().end();
            spans++;
        }
        return spans;
    }

    private static Attributes everyType() {
        return Attributes.builder()
            .put(stringKey("text"), "żółw 🐢")
            .put(stringKey("text.empty"), "")
            .put(booleanKey("bool.true"), true)
            .put(booleanKey("bool.false"), false)
            .put(longKey("int.zero"), 0L)
            .put(longKey("int.smallest"), Long.MIN_VALUE)
            .put(longKey("int.largest"), Long.MAX_VALUE)
            .put(doubleKey("double"), Math.PI)
            .put(doubleKey("double.largest"), Double.MAX_VALUE)
            .put(stringArrayKey("texts"), List.of("a", "", "ü"))
            .put(booleanArrayKey("bools"), List.of(true, false))
            .put(longArrayKey("ints"), List.of(1L, -1L, 1L << 53))
            .put(doubleArrayKey("doubles"), List.of(0.5, -2.5e300))
            .put(stringArrayKey("nothing"), List.of())
            .put(valueKey("bytes"), Value.of(new byte[] {0x00, (byte) 0xff, 0x10, (byte) 0x80}))
            .put(valueKey("map"), Value.of(KeyValue.of("text", Value.of("ü")),
                KeyValue.of("inner", Value.of(KeyValue.of("number", Value.of(1))))))
            .put(valueKey("mixed"), Value.of(Value.of("a"), Value.of(1), Value.of(true), Value.of(0.5)))
            .build();
    }

    /** Spans that leave in one export of about 3 MB, which gzip cannot shrink to less than half. */
    private int sendLarge() {
        Tracer tracer = tracer("shop-frontend", 2 * LARGE_SPANS);
        Random chance = new Random(1);
        byte[] padding = new byte[PADDING_BYTES];
        for (int number = 0; number < LARGE_SPANS; number++) {
            chance.nextBytes(padding);
            tracer.spanBuilder("large " + number).setAttribute("padding", HexFormat.of().formatHex(padding)).startSpan().end();
        }
        return LARGE_SPANS;
    }

    /** A JSON string; messages of errors hold nothing that needs more care. */
    private static String quoted(String text) {
        return '"' + text.replaceAll("[\\\\\"\\p{Cntrl}]", " ") + '"';
    }

    /** Remembers what the exporter says of each export. */
    private record Reporting(SpanExporter exporter, Queue<String> failed) implements SpanExporter {
        @Override
        public CompletableResultCode export(Collection<SpanData> spans) {
            CompletableResultCode result = exporter.export(spans);
            result.whenComplete(() -> {
                if (!result.isSuccess()) {
                    failed.add(String.valueOf(result.getFailureThrowable()));
                }
            });
            return result;
        }

        @Override
        public CompletableResultCode flush() {
            return exporter.flush();
        }

        @Override
        public CompletableResultCode shutdown() {
            return exporter.shutdown();
        }
    }

    /** Sends what the SDK's marshaler writes, and waits for the answer. */
    private record Sending(Transport transport) implements SpanExporter {
        @Override
        public CompletableResultCode export(Collection<SpanData> spans) {
            try {
                transport.send(TraceRequestMarshaler.create(spans));
                return CompletableResultCode.ofSuccess();
            } catch (InterruptedException | IOException | RuntimeException error) {
                return CompletableResultCode.ofExceptionalFailure(error);
            }
        }

        @Override
        public CompletableResultCode flush() {
            return CompletableResultCode.ofSuccess();
        }

        @Override
        public CompletableResultCode shutdown() {
            transport.shutdown();
            return CompletableResultCode.ofSuccess();
        }
    }

    private interface Transport {
        /** Returns once the request was taken, throws if it was not. */
        void send(TraceRequestMarshaler request) throws IOException, InterruptedException;

        /** Nothing is sent afterwards. */
        void shutdown();
    }

    /** grpc-java on Netty with the retries of its service config, as the SDK sets them for a channel. */
    private static final class GrpcJava implements Transport {
        private static final Marshaller<byte[]> BYTES = new Marshaller<>() {
            @Override
            public InputStream stream(byte[] value) {
                return new ByteArrayInputStream(value);
            }

            @Override
            public byte[] parse(InputStream stream) {
                try {
                    return stream.readAllBytes();
                } catch (IOException error) {
                    throw new UncheckedIOException(error);
                }
            }
        };
        private static final MethodDescriptor<byte[], byte[]> EXPORT = MethodDescriptor.<byte[], byte[]>newBuilder()
            .setType(MethodType.UNARY)
            .setFullMethodName("opentelemetry.proto.collector.trace.v1.TraceService/Export")
            .setRequestMarshaller(BYTES)
            .setResponseMarshaller(BYTES)
            .build();

        private final ManagedChannel channel;
        private final CallOptions options;

        GrpcJava(String baseUrl, String compression) {
            Map<String, ?> retries = Map.of("maxAttempts", 5.0, "initialBackoff", FIRST_BACKOFF.toSeconds() + "s",
                "maxBackoff", "30s", "backoffMultiplier", 2.0, "retryableStatusCodes", List.of("UNAVAILABLE"));
            Map<String, ?> method = Map.of("name", List.of(Map.of()), "retryPolicy", retries);
            channel = NettyChannelBuilder.forTarget("dns:///" + URI.create(baseUrl).getAuthority()).usePlaintext()
                .defaultServiceConfig(Map.of("methodConfig", List.of(method))).enableRetry()
                .keepAliveTime(10, TimeUnit.SECONDS).build();
            options = compression.equals("gzip") ? CallOptions.DEFAULT.withCompression("gzip") : CallOptions.DEFAULT;
        }

        @Override
        public void send(TraceRequestMarshaler request) throws IOException {
            ByteArrayOutputStream message = new ByteArrayOutputStream();
            request.writeBinaryTo(message);
            byte[] answer = ClientCalls.blockingUnaryCall(channel, EXPORT,
                options.withDeadlineAfter(EXPORT_TIMEOUT.toSeconds(), TimeUnit.SECONDS), message.toByteArray());
            // A partial success would stand here; only an empty answer, or an empty partial success, takes everything.
            if (answer.length > 2) {
                throw new IOException("partial success: " + HexFormat.of().formatHex(answer));
            }
        }

        @Override
        public void shutdown() {
            channel.shutdownNow();
        }
    }

    /** OTLP/JSON over the JDK's HTTP client, which asks for HTTP/2 by Upgrade and must get along with a refusal of it. */
    private static final class JsonOverHttp implements Transport {
        private final HttpClient client = HttpClient.newHttpClient();
        private final URI uri;
        private final boolean gzip;

        JsonOverHttp(String baseUrl, String compression) {
            uri = URI.create(baseUrl + "/v1/traces");
            gzip = compression.equals("gzip");
        }

        @Override
        public void send(TraceRequestMarshaler request) throws IOException, InterruptedException {
            ByteArrayOutputStream body = new ByteArrayOutputStream();
            if (gzip) {
                try (GZIPOutputStream compressed = new GZIPOutputStream(body)) {
                    request.writeJsonTo(compressed);
                }
            } else {
                request.writeJsonTo(body);
            }
            HttpRequest.Builder post = HttpRequest.newBuilder(uri).timeout(EXPORT_TIMEOUT)
                .header("Content-Type", "application/json")
                .POST(HttpRequest.BodyPublishers.ofByteArray(body.toByteArray()));
            if (gzip) {
                post.header("Content-Encoding", "gzip");
            }
            HttpResponse<byte[]> answer = client.send(post.build(), HttpResponse.BodyHandlers.ofByteArray());
            if (answer.statusCode() != 200) {
                throw new IOException("HTTP " + answer.statusCode() + ": " + new String(answer.body(), StandardCharsets.UTF_8));
            }
        }

        @Override
        public void shutdown() {
            // It has nothing to close in this version of Java.
        }
    }
}
