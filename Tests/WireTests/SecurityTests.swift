import Failure
import Testing
import Wire

@Suite("Keys and tickets on the wire") struct SecurityTests {
    private let terms = Samples.ticketTerms

    @Test("Z85 is that of RFC 32, there and back, and what is none is refused")
    func z85() {
        let bytes: [UInt8] = [0x86, 0x4f, 0xd2, 0x6f, 0xb5, 0x59, 0xf7, 0x5b]
        #expect(Z85.encode(bytes) == "HelloWorld")
        #expect(Z85.decode("HelloWorld") == bytes)
        for text in ["", "Hello Worl", "HelloWorl", "%%%%%", "#####", "\u{e9}bcde"] { #expect(Z85.decode(text) == nil) }
        #expect(PublicKey(text: Samples.key(1).description) == Samples.key(1))
        #expect(PublicKey(text: "HelloWorld") == nil)
    }

    @Test("a ticket is good for its blob, its way, its consumer and its holder, until it ends")
    func tickets() throws {
        let master = TicketKey.master(secret: [1, 2, 3])
        let key = master.derived(for: Samples.key(1))
        let ticket = key.issue(terms, fence: 7, expiresAtUnixMilliseconds: 1000)
        #expect(Ticket(bytes: ticket.bytes) == ticket && ticket.bytes.count == Ticket.byteCount)
        try key.check(ticket, terms, nowUnixMilliseconds: 999)
        #expect(refusal(key, ticket, terms, now: 1000) == "ticket_expired")
        #expect(refusal(key, nil, terms) == "ticket_invalid")
        let others = [
            TicketTerms(direction: .get, digest: terms.digest, consumer: terms.consumer),
            TicketTerms(direction: .put, digest: Samples.digest(99), consumer: terms.consumer),
            TicketTerms(direction: .put, digest: terms.digest, consumer: Samples.key(98)),
        ]
        for other in others { #expect(refusal(key, ticket, other) == "ticket_invalid") }
        #expect(refusal(master.derived(for: Samples.key(2)), ticket, terms) == "ticket_invalid")
        #expect(refusal(TicketKey.master(secret: [4]).derived(for: Samples.key(1)), ticket, terms) == "ticket_invalid")
    }

    @Test("no bit of a ticket can be changed", arguments: 8..<Ticket.byteCount * 8)
    func forgery(bit: Int) throws {
        let ticket = Samples.ticketKey.issue(terms, fence: 7, expiresAtUnixMilliseconds: 1 << 40)
        var bytes = ticket.bytes
        bytes[bit / 8] ^= 1 << (bit % 8)
        let forged = try #require(Ticket(bytes: bytes))
        #expect(refusal(Samples.ticketKey, forged, terms) == "ticket_invalid")
    }

    @Test("GET, PUT_OPEN and a location carry a ticket and a key")
    func optionalFields() throws {
        let ticket = Samples.ticketKey.issue(terms, fence: 7, expiresAtUnixMilliseconds: 1 << 40)
        var ref = Samples.ref
        ref.locations = [.curve(address: "10.0.0.7", port: 7711, key: Samples.key(4)), .tcp(address: "::1", port: 1)]
        let messages: [Message] = [
            .get(Get(digest: Samples.digest(7), offset: 1, length: 2, window: 3, ticket: ticket)),
            .putOpen(PutOpen(digest: Samples.digest(10), size: 9, ticket: ticket)),
            .checkpoint(CheckpointReport(lease: Samples.lease, step: 12, ref: ref)),
        ]
        for message in messages {
            let envelope = Samples.envelope(message)
            #expect(try EnvelopeCodec.decode(EnvelopeCodec.encode(envelope)) == envelope)
        }
    }

    private func refusal(_ key: TicketKey, _ ticket: Ticket?, _ terms: TicketTerms, now: UInt64 = 0) -> String? {
        do {
            try key.check(ticket, terms, nowUnixMilliseconds: now)
            return nil
        } catch {
            return error.code
        }
    }
}
