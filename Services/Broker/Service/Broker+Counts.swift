import Bus
import Runtime
import Wire

extension Broker {
    /// What this process counts: its sockets, its keys, its descriptors. Nothing once a socket is gone.
    static func counts(
        _ server: ControlServer?, _ data: DataServer?, _ security: BusSecurity?
    ) async -> [BrokerCount: UInt64] {
        guard let server, let data else { return [:] }
        let control = await server.counters
        let blobs = await data.statistics
        let descriptors = DescriptorUse.current()
        var counts: [BrokerCount: UInt64] = [
            .descriptorsUsed: UInt64(descriptors.used), .descriptorsLimit: UInt64(descriptors.limit),
            .refusedFrame: control.protocolErrors + blobs.protocolErrors, .refusedOverload: control.overflowed,
        ]
        guard let security else { return counts }
        await server.countHandshakes()
        await data.countHandshakes()
        let keys = security.counters
        counts[.handshakesAdmitted] = keys.admittedHandshakes
        counts[.refusedKey] = keys.refusedHandshakes
        counts[.refusedHandshake] = keys.brokenHandshakes
        counts[.refusedRevoked] = control.revoked + blobs.revoked
        counts[.refusedRole] = control.forbidden
        counts[.refusedTicket] = blobs.refusedTickets
        return counts
    }
}
