// The pictures of a message that is being written, and the button that adds some.
import { html, useRef } from "../lib/html.js";
import { IconButton } from "../lib/ui.js";

export function PictureButton({ onFiles }) {
  const input = useRef(null);
  return html`
    <${IconButton} icon="image" label="Add a picture" onClick=${() => input.current.click()} />
    <input ref=${input} type="file" accept="image/*" multiple hidden aria-label="Pictures"
      onChange=${(event) => (onFiles([...event.target.files]), (event.target.value = ""))} />
  `;
}

export const Pictures = ({ images, onRemove }) => html`
  <ul class="pictures">
    ${images.map((url, i) => html`
      <li key=${i}><img src=${url} alt=${`Picture ${i + 1}`} />
        <${IconButton} icon="close" label=${`Remove picture ${i + 1}`} onClick=${() => onRemove(i)} /></li>`)}
  </ul>
`;
