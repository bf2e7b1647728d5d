// Whose run is meant, of several with one id. What is asked about it is not known here.
package dev.pullcord;

import com.google.protobuf.Descriptors.FieldDescriptor;
import com.google.protobuf.Message;

/** A tenant and an owner; empty: not said. */
record Whose(String tenant, String owner) {
    static final Whose ANYBODY = new Whose("", "");

    /** The request with what it does not say itself, where it can be said. */
    <M extends Message> M of(M request) {
        return with(with(request, "tenant", tenant), "owner", owner);
    }

    @SuppressWarnings("unchecked") // a message's builder makes messages of its type
    private static <M extends Message> M with(M request, String name, String value) {
        FieldDescriptor field = request.getDescriptorForType().findFieldByName(name);
        return value.isEmpty() || field == null || !request.getField(field).equals("")
                ? request
                : (M) request.toBuilder().setField(field, value).build();
    }
}
