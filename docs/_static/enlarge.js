// A picture that is shown smaller than it is leads to itself.
addEventListener("load", () => {
  for (const picture of document.querySelectorAll("article img")) {
    if (picture.closest("a") || picture.clientWidth > 0.9 * picture.naturalWidth) continue;
    const link = document.createElement("a");
    link.href = picture.src;
    link.title = "Enlarge";
    picture.replaceWith(link);
    link.append(picture);
  }
});
