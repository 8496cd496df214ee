import com.hivemq.embedded.EmbeddedExtension;
import com.hivemq.embedded.EmbeddedHiveMQ;
import com.hivemq.extension.sdk.api.ExtensionMain;
import com.hivemq.extension.sdk.api.auth.SimpleAuthenticator;
import com.hivemq.extension.sdk.api.auth.parameter.SimpleAuthInput;
import com.hivemq.extension.sdk.api.auth.parameter.SimpleAuthOutput;
import com.hivemq.extension.sdk.api.packets.connect.ConnackReasonCode;
import com.hivemq.extension.sdk.api.parameter.ExtensionStartInput;
import com.hivemq.extension.sdk.api.parameter.ExtensionStartOutput;
import com.hivemq.extension.sdk.api.parameter.ExtensionStopInput;
import com.hivemq.extension.sdk.api.parameter.ExtensionStopOutput;
import com.hivemq.extension.sdk.api.services.Services;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;

/** Arguments: port, directory, and user name and password where only they may connect. */
public final class Hivemq {
  public static void main(String[] arguments) throws Exception {
    Path directory = Path.of(arguments[1]);
    Path configuration = Files.createDirectories(directory.resolve("conf"));
    Files.writeString(
        configuration.resolve("config.xml"),
        "<hivemq><listeners><tcp-listener><port>" + arguments[0] + "</port><bind-address>127.0.0.1</bind-address>"
            + "</tcp-listener></listeners>"
            + "<anonymous-usage-statistics><enabled>false</enabled></anonymous-usage-statistics></hivemq>");
    SimpleAuthenticator authenticator = new SimpleAuthenticator() {
      @Override
      public void onConnect(SimpleAuthInput input, SimpleAuthOutput output) {
        if (arguments.length < 4) {
          output.authenticateSuccessfully();
          return;
        }
        String user = input.getConnectPacket().getUserName().orElse("");
        String password = input.getConnectPacket().getPassword()
            .map(bytes -> StandardCharsets.UTF_8.decode(bytes).toString()).orElse("");
        if (user.equals(arguments[2]) && password.equals(arguments[3])) {
          output.authenticateSuccessfully();
        } else {
          output.failAuthentication(ConnackReasonCode.BAD_USER_NAME_OR_PASSWORD);
        }
      }
    };
    ExtensionMain accounts = new ExtensionMain() {
      @Override
      public void extensionStart(ExtensionStartInput input, ExtensionStartOutput output) {
        Services.securityRegistry().setAuthenticatorProvider(provided -> authenticator);
      }

      @Override
      public void extensionStop(ExtensionStopInput input, ExtensionStopOutput output) {}
    };
    EmbeddedHiveMQ.builder()
        .withConfigurationFolder(configuration)
        .withDataFolder(Files.createDirectories(directory.resolve("data")))
        .withExtensionsFolder(Files.createDirectories(directory.resolve("extensions")))
        .withEmbeddedExtension(EmbeddedExtension.builder()
            .withId("accounts").withName("Accounts").withVersion("1").withExtensionMain(accounts).build())
        .build().start().join();
  }
}
