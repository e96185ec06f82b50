// Sends spans with the OpenTelemetry SDK for Go (grpc-go, net/http) to a sink, which shows what was sent, and to the
// gateway. What it sends is told in parts/clients.py; nothing here knows how the SDK encodes it.
//
//	send-traces PROTOCOL COMPRESSION LOAD SINK GATEWAY
//
// PROTOCOL is grpc, http/protobuf or http/json, COMPRESSION none or gzip, LOAD small or large, SINK and GATEWAY base URLs;
// `-` leaves the sink out. To the sink http/json is sent as http/protobuf. Prints what became of it as one line of JSON.
package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"strings"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

const (
	schemaURL     = "https://opentelemetry.io/schemas/1.27.0"
	ordinarySpans = 200
	largeSpans    = 2800
	paddingBytes  = 500
	exportTimeout = 60 * time.Second
)

func main() {
	report, err := run(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	if err := json.NewEncoder(os.Stdout).Encode(report); err != nil {
		os.Exit(1)
	}
}

// Report is what the caller is told: how many spans were made, and the error of each export that failed.
type Report struct {
	Spans  int      `json:"spans"`
	Failed []string `json:"failed"`
}

func run(arguments []string) (*Report, error) {
	if len(arguments) != 5 {
		return nil, errors.New("usage: send-traces PROTOCOL COMPRESSION LOAD SINK GATEWAY")
	}
	protocol, compression, load, sink, gateway := arguments[0], arguments[1], arguments[2], arguments[3], arguments[4]
	outcome := &outcome{failed: []string{}}
	var exporters []sdktrace.SpanExporter
	if sink != "-" {
		exporter, err := newExporter(strings.Replace(protocol, "json", "protobuf", 1), compression, sink)
		if err != nil {
			return nil, err
		}
		exporters = append(exporters, &reporting{exporter, outcome})
	}
	exporter, err := newExporter(protocol, compression, gateway)
	if err != nil {
		return nil, err
	}
	exporters = append(exporters, &reporting{exporter, outcome})

	made := 0
	// Each service has a provider of its own; they share the exporters, as the parts of one program do.
	var providers []*sdktrace.TracerProvider
	tracer := func(service string, batch int) trace.Tracer {
		provider := newProvider(service, exporters, batch)
		providers = append(providers, provider)
		return provider.Tracer(service+".library", trace.WithInstrumentationVersion("0.9.1"), trace.WithSchemaURL(schemaURL),
			trace.WithInstrumentationAttributes(attribute.String("team", "core")))
	}
	if load == "large" {
		made = sendLarge(tracer("shop-frontend", 2*largeSpans))
	} else {
		made = sendSmall(tracer("shop-frontend", 5), tracer("shop-cart", 5), tracer("shop-payment", 5))
	}
	ctx := context.Background()
	for _, provider := range providers {
		// Failed exports were counted when they failed.
		_ = provider.ForceFlush(ctx)
	}
	for _, provider := range providers {
		_ = provider.Shutdown(ctx)
	}
	return &Report{made, outcome.failed}, nil
}

func newExporter(protocol, compression, baseURL string) (sdktrace.SpanExporter, error) {
	ctx := context.Background()
	if protocol == "grpc" {
		options := []otlptracegrpc.Option{otlptracegrpc.WithEndpointURL(baseURL), otlptracegrpc.WithTimeout(exportTimeout)}
		if compression == "gzip" {
			options = append(options, otlptracegrpc.WithCompressor("gzip"))
		}
		return otlptracegrpc.New(ctx, options...)
	}
	options := []otlptracehttp.Option{otlptracehttp.WithEndpointURL(baseURL + "/v1/traces"),
		otlptracehttp.WithTimeout(exportTimeout)}
	if compression == "gzip" {
		options = append(options, otlptracehttp.WithCompression(otlptracehttp.GzipCompression))
	}
	if protocol == "http/json" {
		options = append(options, otlptracehttp.WithEncoding(otlptracehttp.EncodingJSON))
	}
	return otlptracehttp.New(ctx, options...)
}

func newProvider(service string, exporters []sdktrace.SpanExporter, batch int) *sdktrace.TracerProvider {
	limits := sdktrace.NewSpanLimits()
	limits.AttributeCountLimit, limits.EventCountLimit, limits.LinkCountLimit = 32, 4, 4
	described := resource.NewWithAttributes(schemaURL,
		attribute.String("service.name", service),
		attribute.String("service.version", "1.2.3"),
		attribute.Int("host.cpu.count", 8),
		attribute.Float64("host.load", 0.25),
		attribute.Bool("host.virtual", true),
		attribute.StringSlice("process.command_args", []string{"serve", "--port", "8080"}))
	options := []sdktrace.TracerProviderOption{sdktrace.WithResource(described), sdktrace.WithRawSpanLimits(limits)}
	for _, exporter := range exporters {
		// Batches are cut by their size alone: the delay is longer than any run.
		options = append(options, sdktrace.WithBatcher(exporter, sdktrace.WithMaxQueueSize(8192), sdktrace.WithBlocking(),
			sdktrace.WithMaxExportBatchSize(batch), sdktrace.WithBatchTimeout(5*time.Minute),
			sdktrace.WithExportTimeout(exportTimeout)))
	}
	return sdktrace.NewTracerProvider(options...)
}

// sendSmall makes one trace over all services with everything a span can carry, and many ordinary spans.
func sendSmall(frontend, cart, payment trace.Tracer) int {
	state, _ := trace.ParseTraceState("vendor=value,other=x")
	traceID, _ := trace.TraceIDFromHex("abcdef0123456789abcdef0123456789")
	spanID, _ := trace.SpanIDFromHex("1122334455667788")
	elsewhere := trace.NewSpanContext(trace.SpanContextConfig{TraceID: traceID, SpanID: spanID,
		TraceFlags: trace.FlagsSampled, TraceState: state, Remote: true})
	remote := trace.ContextWithRemoteSpanContext(context.Background(), elsewhere)
	links := []trace.Link{
		{SpanContext: elsewhere, Attributes: []attribute.KeyValue{attribute.String("why", "retry"), attribute.Int("attempt", 2)}},
		{SpanContext: elsewhere},
	}
	inside, root := frontend.Start(remote, "GET /cart", trace.WithSpanKind(trace.SpanKindServer), trace.WithLinks(links...),
		trace.WithAttributes(everyType()...))
	made := 1
	for kind := trace.SpanKindInternal; kind <= trace.SpanKindConsumer; kind++ {
		_, step := cart.Start(inside, "step "+kind.String(), trace.WithSpanKind(kind))
		step.AddEvent("found", trace.WithAttributes(attribute.Int("items", int(kind)),
			attribute.StringSlice("names", []string{"x", "y"})))
		step.SetStatus(codes.Ok, "")
		step.End()
		made++
	}
	_, charge := payment.Start(inside, "charge", trace.WithSpanKind(trace.SpanKindClient))
	charge.RecordError(errors.New("card declined"))
	for number := range 6 {
		// Three more than the limit allows beside the error: the dropped counts travel too.
		charge.AddEvent(fmt.Sprintf("try %d", number))
	}
	for number := range 40 {
		charge.SetAttributes(attribute.Int(fmt.Sprintf("attribute.%d", number), number))
	}
	charge.SetStatus(codes.Error, "card declined: über limit")
	charge.End()
	root.End()
	made++
	tracers := []trace.Tracer{frontend, cart, payment}
	for number := range ordinarySpans {
		_, span := tracers[number%3].Start(context.Background(), fmt.Sprintf("ordinary %d", number),
			trace.WithAttributes(attribute.Int("number", number)))
		span.End()
		made++
	}
	return made
}

func everyType() []attribute.KeyValue {
	return []attribute.KeyValue{
		attribute.String("text", "żółw 🐢"),
		attribute.String("text.empty", ""),
		attribute.Bool("bool.true", true),
		attribute.Bool("bool.false", false),
		attribute.Int64("int.zero", 0),
		attribute.Int64("int.smallest", math.MinInt64),
		attribute.Int64("int.largest", math.MaxInt64),
		attribute.Float64("double", 3.141592653589793),
		attribute.Float64("double.largest", math.MaxFloat64),
		attribute.StringSlice("texts", []string{"a", "", "ü"}),
		attribute.BoolSlice("bools", []bool{true, false}),
		attribute.Int64Slice("ints", []int64{1, -1, 1 << 53}),
		attribute.Float64Slice("doubles", []float64{0.5, -2.5e300}),
		attribute.StringSlice("nothing", []string{}),
		attribute.ByteSlice("bytes", []byte{0x00, 0xff, 0x10, 0x80}),
		attribute.Map("map", attribute.String("text", "ü"), attribute.Map("inner", attribute.Int("number", 1))),
		attribute.Slice("mixed", attribute.StringValue("a"), attribute.IntValue(1), attribute.BoolValue(true),
			attribute.Float64Value(0.5)),
	}
}

// sendLarge makes spans that leave in one export of about 3 MB, which gzip cannot shrink to less than half.
func sendLarge(tracer trace.Tracer) int {
	padding := make([]byte, paddingBytes)
	for number := range largeSpans {
		_, _ = rand.Read(padding)
		_, span := tracer.Start(context.Background(), fmt.Sprintf("large %d", number),
			trace.WithAttributes(attribute.String("padding", hex.EncodeToString(padding))))
		span.End()
	}
	return largeSpans
}

// reporting remembers what the exporter says of each export.
type reporting struct {
	sdktrace.SpanExporter
	outcome *outcome
}

func (r *reporting) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	err := r.SpanExporter.ExportSpans(ctx, spans)
	if err != nil {
		r.outcome.add(err)
	}
	return err
}

type outcome struct {
	lock   sync.Mutex
	failed []string
}

func (o *outcome) add(err error) {
	o.lock.Lock()
	defer o.lock.Unlock()
	o.failed = append(o.failed, err.Error())
}
