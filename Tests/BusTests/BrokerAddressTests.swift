import Bus
import Failure
import Testing
import Wire

@Suite("The list of brokers")
struct BrokerAddressTests {
    private func parse(_ texts: [String], keys: [String] = []) throws(Failure) -> [BrokerAddress] {
        try BrokerAddress.parse(texts, fallback: .ipc(path: "/run/broker.sock"), key: nil, brokerPublicKeys: keys)
    }

    @Test("without one there is the run directory's; names and commas are read")
    func reads() throws {
        #expect(try parse([]).map(\.endpoint.description) == ["ipc:///run/broker.sock"])
        let list = try parse(["north=tcp://10.0.0.1:7710,south=ipc:///run/a,b.sock", "tcp://[::1]:7710"])
        #expect(list.map(\.cell) == ["north", "south", nil])
        #expect(
            list.map(\.endpoint.description)
                == ["tcp://10.0.0.1:7710", "ipc:///run/a,b.sock", "tcp://[::1]:7710"])
        #expect(try parse(["ipc:///run/x=y.sock"]).map(\.cell) == [nil], "a path may hold a sign")
    }

    @Test(
        "a list that cannot be meant is refused",
        arguments: [
            (["tcp://a:1", "tcp://a:1"], "cells_invalid"), (["a=tcp://a:1", "a=tcp://b:1"], "cells_invalid"),
            ((1...9).map { "tcp://a:\($0)" }, "cells_invalid"), (["North=tcp://a:1"], "cell_name_invalid"),
            (["=tcp://a:1"], "cell_name_invalid"), (["a=pgm://b:1"], "bad_endpoint"), (["nothing"], "bad_endpoint"),
        ] as [([String], String)])
    func refuses(texts: [String], code: String) {
        let failure = #expect(throws: Failure.self) { try parse(texts) }
        #expect(failure?.code == code)
    }

    @Test("public keys are one for all or one for each")
    func keys() {
        let failure = #expect(throws: Failure.self) {
            try parse(["tcp://a:1", "tcp://b:1", "tcp://c:1"], keys: ["x", "y"])
        }
        #expect(failure?.code == "cells_invalid")
    }
}
