import Bus
import Failure
import Testing

@Suite struct EndpointTests {
    @Test(
        "well-formed endpoints are read and written alike",
        arguments: [
            "ipc:///run/zoetrope/broker.sock", "tcp://127.0.0.1:7710", "tcp://[::1]:0", "tcp://*:7710",
            "tcp://broker.example:1",
        ])
    func roundTrip(text: String) throws {
        #expect(try Endpoint(parsing: text).description == text)
    }

    @Test(
        "other transports and malformed endpoints are refused",
        arguments: [
            "", "ipc://", "pgm://239.0.0.1:5555", "inproc://x", "tcp://host", "tcp://host:65536", "tcp://:1",
            "tcp://::1:80",
            "tcp://[zz]:1", "tcp://a;b:1", "ipc:///" + String(repeating: "a", count: 107),
        ])
    func refused(text: String) {
        let failure = #expect(throws: Failure.self) { try Endpoint(parsing: text) }
        #expect(failure?.code == "bad_endpoint")
    }

    @Test("only literal loopback addresses count as loopback")
    func loopback() throws {
        for text in ["ipc:///a", "tcp://127.0.0.1:1", "tcp://127.8.9.1:1", "tcp://localhost:1", "tcp://[::1]:1"] {
            #expect(try Endpoint(parsing: text).isLoopback, "\(text)")
        }
        for text in ["tcp://0.0.0.0:1", "tcp://*:1", "tcp://10.0.0.1:1", "tcp://127.example.org:1", "tcp://[::]:1"] {
            #expect(try !Endpoint(parsing: text).isLoopback, "\(text)")
        }
    }
}
