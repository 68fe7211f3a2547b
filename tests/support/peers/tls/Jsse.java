// Java's TLS (JSSE) as a client of the relay's TLS listener: connects so many times, each with the session of the one before
// when JSSE likes to, and copies standard input and output on the last connection until standard input ends.
//
//     java Jsse.java HOST PORT AUTHORITY CONNECTIONS FIRST_BYTES
//
// FIRST_BYTES is a file: what is sent on every connection but the last, which is closed after the first answer.

import java.io.*;
import java.nio.file.*;
import java.security.KeyStore;
import java.security.cert.*;
import javax.net.ssl.*;

public class Jsse {
    public static void main(String[] arguments) throws Exception {
        KeyStore trusted = KeyStore.getInstance(KeyStore.getDefaultType());
        trusted.load(null);
        try (InputStream pem = new FileInputStream(arguments[2])) {
            trusted.setCertificateEntry("authority", CertificateFactory.getInstance("X.509").generateCertificate(pem));
        }
        TrustManagerFactory trust = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
        trust.init(trusted);
        SSLContext context = SSLContext.getInstance("TLSv1.3");
        context.init(null, trust.getTrustManagers(), null);
        int connections = Integer.parseInt(arguments[3]);
        byte[] first = Files.readAllBytes(Path.of(arguments[4]));
        for (int i = 1; i < connections; i++) {
            try (SSLSocket socket = connect(context, arguments)) {
                socket.getOutputStream().write(first);
                if (socket.getInputStream().read() < 0) {
                    throw new IOException("closed before an answer");
                }
            }
        }
        SSLSocket socket = connect(context, arguments);
        Thread output = new Thread(() -> copy(socket));
        output.setDaemon(true);
        output.start();
        OutputStream out = socket.getOutputStream();
        byte[] buffer = new byte[65536];
        for (int read; (read = System.in.read(buffer)) > 0;) {
            out.write(buffer, 0, read);
        }
        socket.shutdownOutput();
        output.join(60_000);
    }

    static SSLSocket connect(SSLContext context, String[] arguments) throws IOException {
        SSLSocket socket = (SSLSocket) context.getSocketFactory().createSocket(arguments[0], Integer.parseInt(arguments[1]));
        SSLParameters parameters = socket.getSSLParameters();
        parameters.setEndpointIdentificationAlgorithm("HTTPS");
        socket.setSSLParameters(parameters);
        socket.startHandshake();
        System.err.println(socket.getSession().getProtocol() + " " + socket.getSession().getCipherSuite());
        return socket;
    }

    static void copy(SSLSocket socket) {
        try {
            socket.getInputStream().transferTo(System.out);
            System.err.println("close_notify");
        } catch (IOException error) {
            System.err.println(error);
        }
    }
}
