// com.squareup.okhttp3:okhttp-sse: reads the events; coming back is up to you.
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import okhttp3.OkHttpClient;
import okhttp3.Request;
import okhttp3.Response;
import okhttp3.sse.EventSource;
import okhttp3.sse.EventSourceListener;
import okhttp3.sse.EventSources;

public class Follow {
    private static volatile String last;

    public static void main(String[] arguments) throws Exception {
        String url = arguments.length > 0 ? arguments[0] : "http://localhost:8080/subscribe?topic=home/%23";
        // A stream is silent for 15 seconds at most (CAUSEWAY_STREAM_HEARTBEAT_MS). The default of 10 would end it.
        OkHttpClient client = new OkHttpClient.Builder().readTimeout(45, TimeUnit.SECONDS).build();
        EventSource.Factory factory = EventSources.createFactory(client);
        while (true) {
            Request.Builder request = new Request.Builder().url(url);
            if (last != null) request.header("Last-Event-ID", last);
            CompletableFuture<Integer> ended = new CompletableFuture<>();
            factory.newEventSource(request.build(), new EventSourceListener() {
                @Override
                public void onEvent(EventSource source, String id, String type, String data) {
                    if (id != null && !id.isEmpty()) last = id;
                    System.out.println((type == null ? "message" : type) + " " + data);
                }

                @Override
                public void onClosed(EventSource source) {
                    // A clean end, as when the bridge is shut down, is not the last word.
                    ended.complete(0);
                }

                @Override
                public void onFailure(EventSource source, Throwable error, Response response) {
                    // Also for an answer that is no stream. 204: another reader has the session.
                    ended.complete(response == null ? 0 : response.code());
                }
            });
            int status = ended.get();
            if (status == 204 || (status >= 400 && status < 500)) {
                System.out.println("stopped: " + status);
                System.exit(0);
            }
            Thread.sleep(1000);
        }
    }
}
