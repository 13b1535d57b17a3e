import com.sun.net.httpserver.HttpServer;
import java.io.FileInputStream;
import java.net.DatagramPacket;
import java.net.DatagramSocket;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.channels.ServerSocketChannel;
import java.nio.channels.SocketChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.MessageDigest;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.Executors;

/** Server and client for the test of Java: java Pair.java server|client DIR. */
public class Pair {
	static byte[] big;

	public static void main(String[] args) throws Exception {
		big = Files.readAllBytes(Path.of(args[1], "big"));
		if (args[0].equals("server")) {
			server(args[1]);
			return;
		}
		http();
		sockets();
		datagrams();
		System.exit(0);
	}

	static void check(String what, boolean ok) {
		if (!ok) {
			System.err.println("FAIL: " + what);
			System.exit(1);
		}
	}

	/** HttpServer on 8000; on 8001 a channel that sends the file by transferTo; on 8002 an echo with a thread each. */
	static void server(String dir) throws Exception {
		var s = HttpServer.create(new InetSocketAddress(8000), 64);
		s.setExecutor(Executors.newFixedThreadPool(8));
		s.createContext("/big", e -> {
			e.sendResponseHeaders(200, big.length);
			e.getResponseBody().write(big);
			e.close();
		});
		s.createContext("/sum", e -> {
			try {
				var sum = MessageDigest.getInstance("SHA-256").digest(e.getRequestBody().readAllBytes());
				e.sendResponseHeaders(200, sum.length);
				e.getResponseBody().write(sum);
			} catch (java.security.NoSuchAlgorithmException x) {
				throw new java.io.IOException(x);
			}
			e.close();
		});
		s.start();
		var echo = new ServerSocket(8002, 50, InetAddress.getByName("127.0.0.1"));
		new Thread(() -> {
			try {
				for (;;) {
					Socket c = echo.accept();
					new Thread(() -> {
						try (c) {
							c.getInputStream().transferTo(c.getOutputStream());
						} catch (java.io.IOException x) {
							x.printStackTrace();
						}
					}).start();
				}
			} catch (java.io.IOException x) {
				x.printStackTrace();
			}
		}).start();
		try (var l = ServerSocketChannel.open()) {
			l.bind(new InetSocketAddress("127.0.0.1", 8001));
			for (;;) {
				try (var c = l.accept(); var f = FileChannel.open(Path.of(dir, "big"))) {
					for (long at = 0; at < f.size();) at += f.transferTo(at, f.size() - at, c);
				} catch (java.io.IOException clientLeft) {
					System.err.println(clientLeft);
				}
			}
		}
	}

	static void http() throws Exception {
		var client = HttpClient.newHttpClient();
		var gets = new ArrayList<CompletableFuture<HttpResponse<byte[]>>>();
		for (int i = 0; i < 16; i++) {
			var uri = URI.create("http://" + (i % 2 == 0 ? "127.0.0.1" : "[::1]") + ":8000/big");
			gets.add(client.sendAsync(HttpRequest.newBuilder(uri).build(), HttpResponse.BodyHandlers.ofByteArray()));
		}
		for (var g : gets) check("body of /big", Arrays.equals(g.get().body(), big));
		for (int i = 0; i < 10; i++) {
			var part = Arrays.copyOf(big, i * 40_000);
			var req = HttpRequest.newBuilder(URI.create("http://127.0.0.1:8000/sum")).POST(HttpRequest.BodyPublishers.ofByteArray(part)).build();
			var got = client.send(req, HttpResponse.BodyHandlers.ofByteArray()).body();
			check("sum of a post", Arrays.equals(got, MessageDigest.getInstance("SHA-256").digest(part)));
		}
		System.out.println("http ok");
	}

	static void sockets() throws Exception {
		try (var c = SocketChannel.open(new InetSocketAddress("127.0.0.1", 8001))) {
			var b = ByteBuffer.allocate(big.length + 1);
			while (c.read(b) >= 0) { }
			check("transferTo", b.position() == big.length && Arrays.equals(Arrays.copyOf(b.array(), big.length), big));
		}
		List<Socket> open = new ArrayList<>();
		for (int i = 0; i < 20; i++) {
			var s = new Socket();
			s.setTcpNoDelay(true);
			s.setSoTimeout(20_000);
			s.setKeepAlive(true);
			s.connect(new InetSocketAddress("127.0.0.1", 8002), 5000);
			open.add(s);
		}
		for (int i = 0; i < 20; i++) open.get(i).getOutputStream().write(("client " + i).getBytes());
		for (int i = 0; i < 20; i++) open.get(i).shutdownOutput();
		for (int i = 0; i < 20; i++) check("echo", new String(open.get(i).getInputStream().readAllBytes()).equals("client " + i));
		try {
			new Socket("127.0.0.1", 1);
			check("refused", false);
		} catch (java.net.ConnectException expected) {
		}
		var quiet = new Socket("127.0.0.1", 8002);
		quiet.setSoTimeout(200);
		try {
			quiet.getInputStream().read();
			check("timeout", false);
		} catch (java.net.SocketTimeoutException expected) {
		}
		quiet.setSoLinger(true, 0);
		quiet.close();
		System.out.println("sockets ok");
	}

	static void datagrams() throws Exception {
		var a = new DatagramSocket(new InetSocketAddress("127.0.0.1", 0));
		var b = new DatagramSocket(new InetSocketAddress("127.0.0.1", 0));
		a.setSoTimeout(5000);
		for (int i = 0; i < 20; i++) {
			b.send(new DatagramPacket(big, 0, 100 * i, a.getLocalSocketAddress()));
			var p = new DatagramPacket(new byte[5000], 5000);
			a.receive(p);
			check("datagram", p.getLength() == 100 * i && p.getPort() == b.getLocalPort() && Arrays.equals(Arrays.copyOf(p.getData(), 100 * i), Arrays.copyOf(big, 100 * i)));
		}
		System.out.println("datagrams ok");
	}
}
