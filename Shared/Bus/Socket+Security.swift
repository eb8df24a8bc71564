import CZeroMQ
import Failure
import Glibc
import Wire

// Encryption and admission of single sockets. Options hold for the binds and connects that follow them.
extension Socket {
    /// What follows is bound without encryption: ipc, or TCP that needs none.
    ///
    /// - Parameter isHandled: whether a ZAP handler runs. A domain cannot be taken off a socket again, so ipc has one of
    ///   its own then, whose peers the handler lets pass.
    func servePlainly(isHandled: Bool) {
        set(ZMQ_CURVE_SERVER, 0)
        set(ZMQ_ZAP_ENFORCE_DOMAIN, 0)
        if isHandled { setBytes(ZMQ_ZAP_DOMAIN, Array(ZAPHandler.localDomain.utf8)) }
    }

    /// What follows is bound behind CURVE, and whoever knocks is looked up by the ZAP handler. Without the enforced
    /// domain libzmq would admit any key while no handler runs.
    func serveCurve(_ identity: KeyPair) {
        set(ZMQ_CURVE_SERVER, 1)
        setBytes(ZMQ_CURVE_SECRETKEY, identity.secret)
        setBytes(ZMQ_ZAP_DOMAIN, Array(ZAPHandler.keyedDomain.utf8))
        set(ZMQ_ZAP_ENFORCE_DOMAIN, 1)
    }

    /// What follows connects behind CURVE to the owner of `server` and to nobody else.
    func presentCurve(_ identity: KeyPair, to server: PublicKey) {
        setBytes(ZMQ_CURVE_SERVERKEY, server.bytes)
        setBytes(ZMQ_CURVE_PUBLICKEY, identity.publicKey.bytes)
        setBytes(ZMQ_CURVE_SECRETKEY, identity.secret)
    }

    /// Connections over ipc from other users are closed before they say a word (SO_PEERCRED).
    func admitOwnUserOnly() {
        var user = geteuid()
        let result = zmq_setsockopt(handle, ZMQ_IPC_FILTER_UID, &user, MemoryLayout<uid_t>.size)
        precondition(result == 0, "ZMQ_IPC_FILTER_UID: \(lastZMQError())")
    }

    /// libzmq gives a connection up for good when its key was refused or its bytes make no sense; only an explicit new
    /// one tries again.
    func connectAgain(_ endpoint: String) throws(Failure) {
        zmq_disconnect(handle, endpoint)
        try connect(endpoint)
    }

    private func setBytes(_ option: Int32, _ bytes: [UInt8]) {
        let result = bytes.withUnsafeBytes { zmq_setsockopt(handle, option, $0.baseAddress, $0.count) }
        precondition(result == 0, "ZeroMQ option \(option) of \(bytes.count) bytes: \(lastZMQError())")
    }
}
