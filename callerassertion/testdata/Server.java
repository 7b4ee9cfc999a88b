import com.sun.net.httpserver.HttpServer;
import java.io.FileInputStream;
import java.net.InetSocketAddress;
import java.net.http.HttpClient;
import java.security.KeyStore;
import java.security.cert.CertificateFactory;
import java.util.List;
import java.util.Set;
import java.util.concurrent.Executors;
import javax.net.ssl.SSLContext;
import javax.net.ssl.TrustManagerFactory;

/** An app behind docs/verify-the-caller/CallerAssertion.java: 200 or 403. */
public final class Server {
    public static void main(String[] args) throws Exception {
        CallerAssertion verifier = new CallerAssertion(args[0], Set.of(args[1]), HttpClient.newBuilder().sslContext(trusting(args[2])).build());
        HttpServer server = HttpServer.create(new InetSocketAddress("127.0.0.1", 0), 0);
        server.setExecutor(Executors.newCachedThreadPool());
        server.createContext("/", exchange -> {
            int status = 200;
            String answer;
            try {
                List<String> assertions = exchange.getRequestHeaders().getOrDefault("X-Mtls-Authz-Assertion", List.of());
                String claims = verifier.verify(exchange.getRequestMethod(), exchange.getRequestHeaders().getFirst("Host"), exchange.getRequestURI().toString(), assertions);
                answer = CallerAssertion.string(claims, "caller_app");
            } catch (Exception refusal) {
                status = 403;
                answer = String.valueOf(refusal.getMessage());
            }
            boolean head = exchange.getRequestMethod().equals("HEAD");
            exchange.sendResponseHeaders(status, head ? -1 : answer.length());
            if (!head) exchange.getResponseBody().write(answer.getBytes());
            exchange.close();
        });
        server.start();
        System.out.println(server.getAddress().getPort());
        while (System.in.read() >= 0) continue;
        System.exit(0);
    }

    static SSLContext trusting(String file) throws Exception {
        KeyStore roots = KeyStore.getInstance(KeyStore.getDefaultType());
        roots.load(null, null);
        try (FileInputStream in = new FileInputStream(file)) {
            roots.setCertificateEntry("gateway", CertificateFactory.getInstance("X.509").generateCertificate(in));
        }
        TrustManagerFactory trust = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
        trust.init(roots);
        SSLContext context = SSLContext.getInstance("TLS");
        context.init(null, trust.getTrustManagers(), null);
        return context;
    }
}
